"""The model a stage begins with: a preset with fresh weights, or a folder to go on from."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import torch

from fenghuo.errors import ModelError
from fenghuo.models.build import build, find_family
from fenghuo.models.configs import CONFIG, config_json, read_config
from fenghuo.models.folder import load_into, recognize_model
from fenghuo.models.recipe import ModelRecipe
from fenghuo.models.released.huggingface import read_folder
from fenghuo.net.config import EncoderConfig, HeadsConfig
from fenghuo.net.model import Model
from fenghuo.text.tokenizer import Tokenizer


def model_folder(path: Path) -> Path:
    """The model folder of a run, or the folder itself.

    Raises:
        ModelError: there is no model in it.
    """
    for folder in (path, path / "model"):
        if (folder / CONFIG).is_file():
            return folder
    why = "no such folder" if not path.exists() else f"neither {CONFIG} nor model/{CONFIG} in it"
    raise ModelError(f"{path}: not a model folder or a finished run ({why})")


def weights_file(path: Path) -> Path:
    """What stands for a model in a run's lineage: its weights, whose bytes do not change when it is exported.

    Raises:
        ModelError: no model, or no weights in it.
    """
    return read_folder(model_folder(path)).path


def task_block_of(path: Path) -> dict[str, Any] | None:
    """The task a model folder remembers, or None."""
    block = read_config(model_folder(path)).get("fenghuo", {}).get("task")
    return dict(block) if block else None


def same_pieces(tokenizer: Tokenizer, folder: Path) -> None:
    """Check that a model folder cuts text as `tokenizer` does; as many pieces need not be the same pieces.

    Raises:
        ModelError: it does not, or has no tokenizer to tell by.
    """
    other = Tokenizer.load(folder)
    if other.fingerprint != tokenizer.fingerprint:
        raise ModelError(
            f"{folder}: its tokenizer is {other.fingerprint} ({other.vocabulary.size:,} pieces), where the text was "
            f"cut with {tokenizer.fingerprint} ({tokenizer.vocabulary.size:,} pieces): their pieces have different "
            f"numbers; both must be one tokenizer.\n  Cut the text with its own (corpus: 'tokenizer: {folder}'), "
            "or take a model of the text's own"
        )


def check_length(config: EncoderConfig, max_length: int) -> None:
    """Raise ModelError where learned positions end before `max_length`."""
    rows = config.max_length - config.first_position
    if config.position == "learned" and rows < max_length:
        raise ModelError(
            f"max_length {max_length}: the model has learned {rows} positions and knows no others"
        )


def start_model(
    recipe: ModelRecipe,
    heads: HeadsConfig,
    *,
    tokenizer: Tokenizer,
    seed: int,
    max_length: int,
    keep_head: bool = False,
    keep_pretraining: bool = False,
    say: Callable[[str], None] | None = None,
) -> Model:
    """Build what the recipe names.

    Args:
        tokenizer: what the text is cut with.
        seed: draws every weight that the folder does not give.
        max_length: of the longest input, in pieces.
        keep_head: take the folder's task head too, where its shape fits; else the head is drawn afresh, since
            outputs in another order would be learned answers to other questions.
        keep_pretraining: take the folder's MLM, pair and span boundary heads and its pooler also where `heads` names
            none, so that what is saved later still has them.
        say: is told what a folder has not, and is drawn.

    Raises:
        ModelError: an unknown preset, a folder that does not fit or has another tokenizer, positions that end before
            `max_length`, values that no folder of the family can say, so that the trained model could not be saved.
    """
    if recipe.folder is None:
        size = tokenizer.vocabulary.size
        model = build(recipe.preset, values=recipe.values, vocab=size, heads=heads, seed=seed)
    else:
        model = _from_folder(recipe, heads, tokenizer, seed, keep_head, keep_pretraining, say)
    check_length(model.config, max_length)
    # As saving will ask at the end.
    config_json(model.config, model.heads_config, find_family(model.family), {})
    return model


def _from_folder(
    recipe: ModelRecipe,
    heads: HeadsConfig,
    tokenizer: Tokenizer,
    seed: int,
    keep_head: bool,
    keep_pretraining: bool,
    say: Callable[[str], None] | None,
) -> Model:
    assert recipe.folder is not None
    folder, vocab = model_folder(recipe.folder), tokenizer.vocabulary.size
    same_pieces(tokenizer, folder)
    found = recognize_model(folder)
    if found.config.vocab < vocab:
        raise ModelError(
            f"{folder}: vectors for {found.config.vocab} pieces, where the tokenizer has {vocab}"
        )
    if keep_pretraining:
        has = {name: getattr(found.heads, name) for name in ("pooler", "mlm", "pair", "span_boundary")}
        heads = replace(heads, **{name: here or getattr(heads, name) for name, here in has.items()})
    kept = {name: value for name, value in asdict(found.config).items() if name != "vocab"}
    values = {**kept, **recipe.values}
    model = build(
        None, family=found.family.name, values=values, vocab=found.config.vocab, heads=heads, seed=seed
    )
    drawn = {
        name: weight.detach().clone() for name, weight in model.named_parameters() if name.startswith("head.")
    }
    report = load_into(model, folder)
    if say is not None and report.fresh:
        rooms = ", ".join(
            _ROOMS.get(room, room) for room in dict.fromkeys(name.split(".")[0] for name in report.fresh)
        )
        say(f"{folder}: it has no weights for {rooms}; they start afresh ({', '.join(report.fresh)})")
    if not keep_head:
        with torch.no_grad():
            for name, weight in drawn.items():
                model.get_parameter(name).copy_(weight)
    return model


_ROOMS = {
    "mlm": "the MLM head",
    "pair": "the pair head",
    "span_boundary": "the span boundary head",
    "pooler": "the pooler",
    "entity": "the entity head",
    "head": "the task head",
}
