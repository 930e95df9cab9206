"""A model → int8 weights, with what that costs in quality, and a gate.

Dynamic quantization (onnxruntime): weights of linear layers are stored as int8, a scale an output channel;
activations are rounded to 8 bits while the model runs, with one scale a call. The word table, half of a small
model, is stored as int8 with a scale a piece. Layer norms, softmax and the products inside attention (queries
with keys, with NEZHA's distances, and weights with values) have no stored weights and stay fp32.
"""

# Shapes: V vocabulary, D width.
from __future__ import annotations

import platform
import tempfile
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fenghuo.compress.export import FILE, QUANTIZED_FILE, copy_model, is_current, write_onnx
from fenghuo.compress.onnx_call import call, open_session, pad, quiet
from fenghuo.compress.recipe import EvaluateRecipe, QuantizeRecipe
from fenghuo.errors import DataError, GateError, ModelError
from fenghuo.models.card import write_card
from fenghuo.models.folder import load_model
from fenghuo.models.start import model_folder, task_block_of, weights_file
from fenghuo.net.model import Model
from fenghuo.rundir import RunDir, folder_atomic, write_atomic
from fenghuo.tasks.evaluate import asked_logits, batches_by_length, score_rows
from fenghuo.tasks.splits import Splits, read_splits
from fenghuo.tasks.task import Task, TaskExample, task_from_block
from fenghuo.text.tokenizer import Tokenizer

import onnx  # after `export`, which says what to install where it is missing
from onnx import helper, numpy_helper
