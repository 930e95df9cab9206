"""From raw text, Chinese first, to a small, fast language encoder.

    text → corpus → pretrain → finetune → study → compress → serve

The names below are the whole Python surface; each is imported on first use, so that
`import fenghuo` needs neither torch nor onnxruntime.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

if TYPE_CHECKING:
    from fenghuo.models.folder import load_model as load_model
    from fenghuo.models.folder import save_model as save_model
    from fenghuo.serve.predictor import load_predictor as load_predictor

_HOME = {
    "load_model": "fenghuo.models.folder",
    "save_model": "fenghuo.models.folder",
    "load_predictor": "fenghuo.serve.predictor",
}
__all__ = ["__version__", "load_model", "load_predictor", "save_model"]


def __getattr__(name: str) -> Any:
    if name in _HOME:
        return getattr(import_module(_HOME[name]), name)
    raise AttributeError(f"module 'fenghuo' has no attribute '{name}'")
