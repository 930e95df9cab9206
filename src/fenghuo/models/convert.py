"""A released model → a model folder, or back into another framework's files; with a report of every tensor."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from fenghuo.errors import ModelError, RunError, UsageError, did_you_mean
from fenghuo.models.configs import config_json
from fenghuo.models.conversion_report import ConversionReport
from fenghuo.models.family import Family
from fenghuo.models.folder import READ, fill, open_model, save_model
from fenghuo.models.health import describe_mlm
from fenghuo.models.names import Form, Target
from fenghuo.models.recognize import recognize
from fenghuo.models.released.archive import is_archive, unpacked
from fenghuo.models.released.paddle import write_paddle
from fenghuo.models.released.tensorflow import write_tensorflow
from fenghuo.models.vocabulary_files import VocabularyFiles, find_vocabulary
from fenghuo.models.weights import stored_tensors
from fenghuo.models.whole import whole_heads
from fenghuo.net.model import Model
from fenghuo.rundir import disk_error, folder_atomic, write_atomic, write_json

REPORT = "conversion.json"


def convert(
    source: Path, out: Path | None, *, to: Target = "huggingface", overwrite: bool = False
) -> ConversionReport:
    """Read a released model, whoever wrote it, and write it anew.

    Args:
        source: a folder (a run's too), the prefix of a checkpoint, a file of weights or an archive.
        out: folder to make; None reads and reports only.
        to: whose files to write.
        overwrite: replace a folder that is there.

    Raises:
        UsageError: no such source.
        RunError: `out` holds something.
        ModelError: damaged or unsafe files; tensors of no family known here; a family that has no such files.
        DiskError: the disk is full, read-only or gone.
    """
    if out is not None and not overwrite and (out.is_file() or (out.is_dir() and any(out.iterdir()))):
        raise RunError(f"{out}: is there already; another --out, or --overwrite")
    with _opened(source) as place:
        model, words, report = _read(source, place)
        if out is not None:
            form = report.family.form if to == "huggingface" else form_for(model, report.family, to)
            try:
                out.parent.mkdir(parents=True, exist_ok=True)
            except OSError as problem:
                raise disk_error(out, problem) from problem
            with folder_atomic(out) as folder:
                if to == "huggingface":
                    save_model(model, folder)
                else:
                    report = replace(
                        report, remarks=(*report.remarks, *_write(model, report.family, form, folder))
                    )
                words.save(folder)
                write_json(folder / REPORT, report.as_json())
                write_atomic(folder / "README.md", report.card())
    return report


@contextmanager
def _opened(source: Path) -> Iterator[Path]:
    if not source.exists() and not source.with_name(f"{source.name}.index").is_file():
        near = [path.name.removesuffix(".index") for path in source.parent.glob("*")]
        raise UsageError(f"{source}: no such file, folder or checkpoint.{did_you_mean(source.name, near)}")
    if source.is_file() and is_archive(source):
        with unpacked(source) as folder:
            yield folder
    elif (source / "result.json").is_file() and (source / "model").is_dir():  # a run's folder
        yield source / "model"
    else:
        yield source


def _read(source: Path, place: Path) -> tuple[Model, VocabularyFiles, ConversionReport]:
    values, where, stored = open_model(place)
    whole = whole_heads(recognize(stored, values, where))
    found = whole.found
    model, left = fill(found)
    _check_labels(model, where)
    words = find_vocabulary(place, stored.settings, values)
    rows = model.config.vocab
    infinite = [name for name, x in model.named_parameters() if not bool(x.isfinite().all())]
    remarks = list(found.remarks)
    if infinite:
        some = ", ".join(found.weights.sources[name].name for name in infinite[:3])
        more = ", …" if len(infinite) > 3 else ""
        remarks.append(f"WARNING: NaN or infinity in {len(infinite)} tensors: {some}{more}")
    report = ConversionReport(
        source=source,
        stored=stored,
        found=found,
        parameters=sum(parameter.numel() for parameter in model.parameters()),
        absent=whole.absent,
        zeroed=tuple(str(found.family.theirs(name, found.heads.task)) for name in whole.zeroed),
        left_out=(*whole.left_out, *left),
        ignored=tuple(key for key in found.ignored if key not in READ),
        remarks=tuple(remarks),
        vocabulary=words.describe(rows),
        health=None if model.mlm is None else describe_mlm(model, words.tokenizer),
    )
    return model, words, report


def _check_labels(model: Model, where: Path) -> None:
    """Names of outputs in two orders, or of another number of outputs, would be answers to other questions.

    Raises:
        ModelError: they disagree.
    """
    names, numbers = model.extra.get("id2label"), model.extra.get("label2id")
    for key, value in (("id2label", names), ("label2id", numbers)):
        if value is not None and not isinstance(value, Mapping):
            raise ModelError(f"{where}: {key} is {value!r}, not a table")
    if isinstance(names, Mapping) and model.heads_config.task and len(names) != model.heads_config.outputs:
        raise ModelError(
            f"{where}: id2label names {len(names)} outputs, the classifier has {model.heads_config.outputs}"
        )
    if isinstance(names, Mapping) and isinstance(numbers, Mapping):
        for number, name in names.items():
            if name in numbers and str(numbers[name]) != str(number):
                raise ModelError(
                    f"{where}: id2label says that {number} is '{name}', label2id that '{name}' is {numbers[name]}"
                )


def form_for(model: Model, family: Family, to: Target) -> Form:
    """The form of a framework's files that can hold the model.

    Raises:
        ModelError: there is none.
    """
    names, task = [name for name, _ in model.named_parameters()], model.heads_config.task
    forms = [form for form in family.released if form.target == to]
    for form in forms:
        if len({form.theirs(name, task) for name in names} - {None}) == len(names):
            return form
    if not forms:
        raise ModelError(f"{to} files of {family.name} models are not known here, so none can be written")
    lost = [name for name in names if forms[0].theirs(name, task) is None]
    raise ModelError(
        f"{to} files of {family.name} models have no name for {', '.join(lost[:3]) or 'its layers'}"
    )


def _write(model: Model, family: Family, form: Form, folder: Path) -> list[str]:
    """Write the weights under the form's names, and the configuration as such code reads it; remarks."""
    ours = {name: x.detach() for name, x in model.named_parameters()}
    arrays = stored_tensors(form, ours, model.config.layers, model.heads_config.task)
    for theirs in form.copies if model.mlm is not None else ():
        table = model.get_parameter(form.tied[theirs]).detach()
        # A linear layer's weight lies the other way round; a parameter of its own does not.
        arrays[theirs] = table.T.contiguous() if theirs.endswith(".weight") else table.clone()
    values = config_json(model.config, model.heads_config, family, model.extra)
    remarks = []
    back = {meant: said for said, meant in form.means.items()}
    if model.config.activation in back:
        values["hidden_act"] = back[model.config.activation]
    for name, theirs_is in form.defaults.items():
        mine = getattr(model.config, name)
        if mine != theirs_is and (name != "activation" or mine in form.means):
            remarks.append(
                f"WARNING: {form.name} code computes with {name} {theirs_is}; this model has {mine}"
            )
    if form.target == "tensorflow":
        write_tensorflow(folder / "model.ckpt", arrays)
        write_atomic(folder / "bert_config.json", _pretty(values))
    else:
        write_paddle(folder / "model_state.pdparams", arrays)
        write_atomic(folder / "config.json", _pretty(values))
    return remarks


def _pretty(values: Mapping[str, Any]) -> str:
    return json.dumps(values, ensure_ascii=False, indent=2) + "\n"
