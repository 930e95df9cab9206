"""The other direction: what fenghuo saves, transformers loads with the same outputs. Live only."""

from __future__ import annotations

import json
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from fenghuo.models.folder import build, save_model
from fenghuo.net.config import HeadsConfig
from fenghuo.text.vocabulary import train_vocabulary

CHECK = Path(__file__).parent / "check_saved.py"
HEADS = {
    "pretraining": HeadsConfig(mlm=True, pair=True),
    "mlm": HeadsConfig(pooler=False, mlm=True),
    "classify": HeadsConfig(task="classify", outputs=3),
    "tag": HeadsConfig(pooler=False, task="tag", outputs=5),
    "none": HeadsConfig(),
}
TEXTS = [
    "风火轮转得快,Nezha rides on wind and fire!",
    "今天天气很好。 The quick brown fox 2024",
    "é ﬁ 한 \u200b 𠀀",
]


FAMILIES = {
    "bert": {},
    "nezha": {"relative_clip": 16},
    "roberta": {},
    "albert": {"embed_width": 16},
    "ernie": {"tasks": 3, "segments": 4},
    "xlm": {"languages": 4},
}


def save(folder: Path, family: str, heads: HeadsConfig) -> None:
    """A model folder with its tokenizer, some inputs, and what fenghuo makes of them."""
    tokenizer = train_vocabulary([text for text in TEXTS for _ in range(3)], size=120)
    vocab = tokenizer.vocabulary.size
    shape = {"layers": 2, "heads": 4, "width": 48, "inner_width": 192, "max_length": 256, **FAMILIES[family]}
    model = build(None, family=family, values=shape, vocab=vocab, heads=heads, seed=0).eval()
    torch.manual_seed(1)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.1)
    labels = [f"label {i}" for i in range(heads.outputs)]
    save_model(model, folder, extra={"labels": labels, "fenghuo": {"task": {"labels": labels}}})
    tokenizer.save(folder)
    ids, mask = torch.randint(3, vocab, (3, 150)), torch.ones(3, 150, dtype=torch.long)
    mask[1, 40:] = 0
    inputs = {"input_ids": ids, "attention_mask": mask}
    if model.config.segments > 1:
        inputs["token_type_ids"] = torch.randint(model.config.segments, ids.shape)
    if model.config.tasks:
        inputs["task_type_ids"] = torch.randint(model.config.tasks, ids.shape)
    if model.config.languages:
        inputs["langs"] = torch.randint(model.config.languages, ids.shape)
    with torch.no_grad():
        out = model(**inputs)
    values = {**inputs, "last": out.last_hidden_state, "logits": out.logits, "pair": out.pair_logits}
    save_file({name: x for name, x in values.items() if x is not None}, folder / "values.safetensors")
    encoded = [{"text": text, "ids": tokenizer.encode(text).ids.tolist()} for text in TEXTS]
    (folder / "texts.json").write_text(json.dumps(encoded), encoding="utf-8")


def heads_of(family: str) -> dict[str, HeadsConfig]:
    """The heads that a class of transformers has for the family."""
    if family == "xlm":
        return {name: replace(heads, pooler=False) for name, heads in HEADS.items() if not heads.pair}
    return {name: heads for name, heads in HEADS.items() if family != "roberta" or not heads.pair}


def test_transformers_loads_what_is_saved(reference, tmp_path, near):
    for family in FAMILIES:
        for name, heads in heads_of(family).items():
            save(tmp_path / f"{family}-{name}", family, heads)
    run = subprocess.run([reference, CHECK, tmp_path], capture_output=True, text=True, check=False)
    if run.returncode:
        pytest.fail(run.stderr[-3000:])
    report = json.loads(run.stdout.splitlines()[-1])
    for folder, found in report["differences"].items():
        for what, worst in found.items():
            group = f"saved, transformers {report['version']}"
            near(group, f"{folder} {what}", torch.tensor(worst), torch.tensor(0.0), within=1e-5)
    checked = {folder.split("-")[0] for folder in report["differences"]}
    assert checked == (FAMILIES.keys() if report["has_nezha"] else FAMILIES.keys() - {"nezha"})
