"""Questions that labelled rows answer. One file a task, one line here; known data sets are values below it."""

from __future__ import annotations

TASKS: dict[str, str] = {
    "classify": "fenghuo.tasks.classify:Classify",
    "pair": "fenghuo.tasks.classify:ClassifyPair",
    "tag": "fenghuo.tasks.tag:Tag",
}
"""kind → class; imported on use, so that reading a recipe needs no torch."""
