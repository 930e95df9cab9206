"""Questions that raw text answers by itself. One file an objective, one line here."""

from __future__ import annotations

OBJECTIVES: dict[str, str] = {
    "mlm": "fenghuo.objectives.mlm:MaskedLanguageModel",
    "span_boundary": "fenghuo.objectives.span_boundary:SpanBoundary",
    "nsp": "fenghuo.objectives.nsp:NextSentence",
    "sop": "fenghuo.objectives.sop:SentenceOrder",
    "causal": "fenghuo.objectives.causal:CausalLanguageModel",
}
"""name → class; imported on use, so that reading a recipe needs no torch."""
