"""Load what fenghuo saved with transformers' Auto classes, and print by how much the outputs differ.

    .venv-reference/bin/python tests/parity/check_saved.py DIR

Knows nothing of fenghuo. The last line of its output is JSON.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import torch
import transformers
from safetensors.torch import load_file
from transformers.models.auto.configuration_auto import CONFIG_MAPPING_NAMES

AUTO = {
    "ForPreTraining": transformers.AutoModelForPreTraining,
    "ForMaskedLM": transformers.AutoModelForMaskedLM,
    "WithLMHeadModel": transformers.AutoModelForMaskedLM,
    "ForSequenceClassification": transformers.AutoModelForSequenceClassification,
    "ForTokenClassification": transformers.AutoModelForTokenClassification,
    "LMHeadModel": transformers.AutoModelForCausalLM,
    "Model": transformers.AutoModel,
}


def load(folder: Path) -> torch.nn.Module:
    """The model by its `architectures`; a weight that is missing or left over is an error."""
    (named,) = json.loads((folder / "config.json").read_text(encoding="utf-8"))["architectures"]
    auto = next(auto for ending, auto in AUTO.items() if named.endswith(ending))
    model, report = auto.from_pretrained(folder, output_loading_info=True)
    assert type(model).__name__ == named, (folder, type(model))
    # The frequencies of Transformer-XL's sines are a formula, which transformers stores nevertheless.
    report["missing_keys"] = [x for x in report["missing_keys"] if not x.endswith("pos_emb.inv_freq")]
    for kind in ("missing_keys", "unexpected_keys", "mismatched_keys"):
        assert not report[kind], (folder, kind, report[kind])
    return model.eval()


def differences_with_memory(folder: Path) -> dict[str, float]:
    """Largest absolute differences of Transformer-XL over two segments, where memory starts without pieces."""
    type_as = torch.Tensor.type_as
    # As released, the model calls `type_as(dtype=…)`, which torch does not know.
    torch.Tensor.type_as = lambda x, other=None, dtype=None: (
        x.to(dtype) if other is None else type_as(x, other)
    )
    values, model = load_file(folder / "values.safetensors"), load(folder)
    ids, first = values["input_ids"], int(values["first"])
    mems = [torch.zeros(0, len(ids), model.config.d_model) for _ in range(model.config.n_layer)]
    with torch.no_grad():
        out = [model(ids[:, :first], mems=mems, output_hidden_states=True)]
        out.append(model(ids[:, first:], mems=out[0].mems, output_hidden_states=True))
    found = {
        "last": torch.cat([one.hidden_states[-1] for one in out], dim=1),
        "logits": torch.cat([one.prediction_scores for one in out], dim=1),
    }
    return {name: float((theirs - values[name]).abs().max()) for name, theirs in found.items()}


def differences(folder: Path) -> dict[str, float]:
    """Largest absolute differences where the mask shows a piece."""
    values = load_file(folder / "values.safetensors")
    shown = values["attention_mask"].bool()
    names = ("input_ids", "attention_mask", "token_type_ids", "task_type_ids", "langs")
    inputs = {key: values.pop(key) for key in names if key in values}
    with torch.no_grad():
        out = load(folder)(**inputs, output_hidden_states=True)
    last = out.hidden_states[-1]
    found = {"last": last, "logits": out.get("logits"), "pair": out.get("seq_relationship_logits")}
    if found["pair"] is None:
        found["pair"] = out.get("sop_logits")
    if found["logits"] is None:
        found["logits"] = out.get("prediction_logits")
    worst = {}
    for name, mine in values.items():
        theirs = found[name]
        if mine.shape[:2] == shown.shape:
            mine, theirs = mine[shown], theirs[shown]
        worst[name] = float((mine - theirs).abs().max())
    return worst


def check_tokenizer(folder: Path) -> None:
    """`AutoTokenizer` reads the folder as BERT's fast tokenizer, with the same pieces."""
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    assert tokenizer.is_fast
    assert "Bert" in type(tokenizer).__name__, type(tokenizer)
    for row in json.loads((folder / "texts.json").read_text(encoding="utf-8")):
        assert tokenizer(row["text"], add_special_tokens=False)["input_ids"] == row["ids"], row["text"]
        framed = tokenizer(row["text"])["input_ids"]
        assert framed == [tokenizer.cls_token_id, *row["ids"], tokenizer.sep_token_id]


def main() -> None:
    has_nezha, has_transfo_xl = (name in CONFIG_MAPPING_NAMES for name in ("nezha", "transfo-xl"))
    found = {}
    for folder in sorted(Path(sys.argv[1]).iterdir()):
        if folder.name.startswith("nezha") and not has_nezha:
            continue
        if folder.name.startswith("transfo-xl"):
            found |= {folder.name: differences_with_memory(folder)} if has_transfo_xl else {}
            continue
        found[folder.name] = differences(folder)
        check_tokenizer(folder)
    known = {"has_nezha": has_nezha, "has_transfo_xl": has_transfo_xl}
    print(json.dumps({"version": transformers.__version__, **known, "differences": found}))


if __name__ == "__main__":
    main()
