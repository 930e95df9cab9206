"""The demo's recipes: what each run of the way reads and does."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

from fenghuo.config import Recipe
from fenghuo.demo.data import DemoData
from fenghuo.demo.scale import Scale, Shape
from fenghuo.rundir import RunDir

MAX_LENGTH = {"reviews": 64, "ner": 128}
KINDS = {"reviews": "classify", "ner": "tag"}
DROPOUT = {"dropout": 0.1, "attention_dropout": 0.1}
"""Of fine-tuning, where a few hundred rows are seen several times."""
RATE = {"reviews": 5e-4, "ner": 1e-3}
"""Peak learning rates of fine-tuning a teacher, from pretrained weights and from scratch."""
STUDENT_RATE = 1e-3
BATCH_ROWS = 32
WINDOW = 4096
"""Slices of raw text sorted by length together: an eighth of them."""


@dataclass(frozen=True, kw_only=True)
class Stage:
    """One run folder and what makes it."""

    name: str
    """Folder below the demo's, with slashes."""
    verb: str
    title: str
    recipe: type[Recipe]
    values: dict[str, Any]
    function: Callable[[Any, RunDir], None]


class Stages:
    """Every stage of the way, in the data's order."""

    def __init__(self, out: Path, data: DemoData, scale: Scale) -> None:
        self.out, self.data, self.scale = out, data, scale

    def shared(self) -> Iterator[Stage]:
        """Corpus, teacher and general student, augmentations: once for all seeds."""
        yield self._stage(
            "corpus", "corpus", "clean, deduplicate, cut into pieces, store with word edges", self._corpus()
        )
        yield self._stage("pretrained", "pretrain", "NEZHA by whole-word masking", self._pretrain())
        yield self._stage("student", "distill", "general distillation into the student", self._general())
        for task in KINDS:
            yield self._stage(
                f"{task}/augmented", "augment", f"{task}: new texts for the student", self._augment(task)
            )

    def line(self, task: str, seed: int) -> Iterator[Stage]:
        """Teacher → student → int8 of one task and seed."""
        at = f"{task}/seed-{seed}"
        yield self._stage(
            f"{at}/teacher", "finetune", f"{task}: fine-tune the teacher", self._teacher(task, seed)
        )
        yield self._stage(
            f"{at}/student", "distill", f"{task}: distill inside, then answers", self._student(task, seed)
        )
        yield self._stage(f"{at}/int8", "quantize", f"{task}: int8", self._int8(task, seed))

    def others(self, task: str, seed: int) -> Iterator[Stage]:
        """What the line is compared with: from scratch, without distillation, without augmentation."""
        at = f"{task}/seed-{seed}"
        yield self._stage(
            f"{at}/scratch",
            "finetune",
            f"{task}: the teacher's network from scratch",
            self._scratch(task, seed),
        )
        yield self._stage(
            f"{at}/alone",
            "finetune",
            f"{task}: the student's network without distillation",
            self._alone(task, seed),
        )
        yield self._stage(
            f"{at}/plain",
            "distill",
            f"{task}: the student without augmentation",
            self._student(task, seed, augmented=False),
        )

    def chains(self) -> list[tuple[str, list[Stage]]]:
        """The experiment, by task and seed: what must run one after the other."""
        return [
            (f"{task}, seed {seed}", [*self.line(task, seed), *self.others(task, seed)])
            for seed in self.scale.seeds
            for task in KINDS
        ]

    # ---- recipes -----------------------------------------------------------------------------------------------

    def _stage(self, name: str, verb: str, title: str, values: dict[str, Any]) -> Stage:
        recipe, function = HOMES[verb]
        return Stage(
            name=name,
            verb=verb,
            title=title,
            recipe=_load(recipe),
            values=values,
            function=_load(function),
        )

    def _corpus(self) -> dict[str, Any]:
        return {
            "input": [
                {"path": str(self.data.newspaper), "format": "paragraphs"},
                {"path": str(self.data.review_lines), "format": "lines"},
            ],
            "tokenizer": str(self.out / "vocabulary"),
            "heldout": 0.02,
        }

    def _pretrain(self) -> dict[str, Any]:
        return {
            "corpus": str(self.out / "corpus"),
            "model": {"preset": "nezha-4l-312", "values": self.scale.teacher.values},
            # Twice BERT's rate: little text is asked more (Wettig et al. 2023, arXiv 2202.08005).
            "objectives": [{"name": "mlm", "rate": 0.3, "unit": "word"}],
            "batch": {"pieces": self.scale.batch_pieces, "window": WINDOW},
            "optimizer": {"learning_rate": 2e-3, "betas": [0.9, 0.98]},
            "schedule": {"warmup": 0.05},
            "train": {"steps": self.scale.pretrain_steps, "seed": 1, "save_every": 200, "keep": 1},
        }

    def _general(self) -> dict[str, Any]:
        return {
            "stage": "general",
            "teacher": str(self.out / "pretrained"),
            "student": {"preset": "nezha-4l-312", "values": self.scale.student.values},
            "corpus": str(self.out / "corpus"),
            "batch": {"pieces": self.scale.batch_pieces, "window": WINDOW},
            "optimizer": {"learning_rate": 2e-3, "betas": [0.9, 0.98]},
            "train": {"steps": self.scale.general_steps, "seed": 1, "save_every": 200, "keep": 1},
        }

    def _augment(self, task: str) -> dict[str, Any]:
        return {
            "model": str(self.out / "pretrained"),
            "task": {"kind": KINDS[task]},
            "data": {"train": str(self._rows(task, "train"))},
            "lexicon": [str(self.data.review_lines if task == "reviews" else self.data.newspaper)],
            "copies": self.scale.copies,
            "max_length": MAX_LENGTH[task],
            "seed": 1,
        }

    def _teacher(self, task: str, seed: int) -> dict[str, Any]:
        pretrained = {"folder": str(self.out / "pretrained"), "values": DROPOUT}
        return self._finetune(task, seed, pretrained, RATE[task])

    def _scratch(self, task: str, seed: int) -> dict[str, Any]:
        return self._finetune(task, seed, self._fresh(self.scale.teacher), RATE[task])

    def _alone(self, task: str, seed: int) -> dict[str, Any]:
        """As many steps at the same rate as the student's two stages, from labels instead of a teacher."""
        inside, answers, every = self._student_steps(task)
        return {
            **self._finetune(task, seed, self._fresh(self.scale.student), STUDENT_RATE),
            "train": {"steps": inside + answers, "evaluate_every": every, "seed": seed, "keep": 1},
        }

    def _fresh(self, shape: Shape) -> dict[str, Any]:
        return {
            "preset": "nezha-4l-312",
            "values": {**shape.values, **DROPOUT},
            "tokenizer": str(self.out / "vocabulary"),
        }

    def _finetune(self, task: str, seed: int, model: dict[str, Any], rate: float) -> dict[str, Any]:
        return {
            "model": model,
            "task": {"kind": KINDS[task], "max_length": MAX_LENGTH[task]},
            "data": self._data(task),
            "batch": {"rows": BATCH_ROWS},
            "optimizer": {"learning_rate": rate},
            "train": {"epochs": self.scale.teacher_epochs, "seed": seed, "keep": 1},
        }

    def _student(self, task: str, seed: int, *, augmented: bool = True) -> dict[str, Any]:
        # Steps, not epochs: with and without augmentation the student trains as long.
        inside, answers, every = self._student_steps(task)
        extra = {"augmented": str(self.out / task / "augmented" / "augmented.jsonl")} if augmented else {}
        return {
            "stage": "task",
            "teacher": str(self.out / task / f"seed-{seed}" / "teacher"),
            "student": {"folder": str(self.out / "student")},
            "data": self._data(task),
            **extra,
            "intermediate": {"steps": inside, "learning_rate": 5e-4},
            "batch": {"rows": BATCH_ROWS},
            "optimizer": {"learning_rate": STUDENT_RATE},
            "train": {"steps": answers, "evaluate_every": every, "seed": seed, "keep": 1},
        }

    def _student_steps(self, task: str) -> tuple[int, int, int]:
        """Steps of stage 1, of stage 2, and of one pass over rows and augmentations (were none repeated)."""
        rows = self.scale.reviews_train if task == "reviews" else self.scale.ner_train
        a_pass = max(1, rows * (1 + self.scale.copies) // BATCH_ROWS)
        return round(self.scale.inside_epochs * a_pass), round(self.scale.student_epochs * a_pass), a_pass

    def _int8(self, task: str, seed: int) -> dict[str, Any]:
        return {
            "model": str(self.out / task / f"seed-{seed}" / "student"),
            "evaluate": {"data": self._data(task, ("test",))},
        }

    def _data(self, task: str, parts: tuple[str, ...] = ("train", "dev", "test")) -> dict[str, Any]:
        return {part: str(self._rows(task, part)) for part in parts}

    def _rows(self, task: str, part: str) -> Path:
        return self.data.reviews(part) if task == "reviews" else self.data.ner(part)


HOMES = {
    "corpus": ("fenghuo.corpus.recipe:CorpusRecipe", "fenghuo.corpus.build:run"),
    "pretrain": ("fenghuo.pretrain.recipe:PretrainRecipe", "fenghuo.pretrain.run:run"),
    "finetune": ("fenghuo.finetune.recipe:FinetuneRecipe", "fenghuo.finetune.run:run"),
    "augment": ("fenghuo.compress.recipe:AugmentRecipe", "fenghuo.compress.augment:run"),
    "distill": ("fenghuo.compress.recipe:DistillRecipe", "fenghuo.compress.distill:run"),
    "quantize": ("fenghuo.compress.recipe:QuantizeRecipe", "fenghuo.compress.quantize:run"),
}


def _load(place: str) -> Any:
    module, _, name = place.partition(":")
    return getattr(import_module(module), name)
