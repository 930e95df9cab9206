"""Figures of a pretrained run on its corpus's held-out text, at several lengths, as one JSON object.

.venv/bin/python benchmarks/experiments/heldout.py runs/pretrained runs/corpus 128 512
"""

from __future__ import annotations

import json
import sys

from fenghuo.pretrain.evaluate import evaluate_model

if __name__ == "__main__":
    run, corpus, *lengths = sys.argv[1:]
    print(json.dumps({length: evaluate_model(run, corpus, max_length=int(length)) for length in lengths}))
