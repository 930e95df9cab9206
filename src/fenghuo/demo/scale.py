"""The sizes of the demo. `small` is a first look in minutes; `full` is the experiment of docs/results."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Shape:
    """A NEZHA by its values; heads are as many in teacher and student, so that attention compares head by head."""

    layers: int
    width: int
    heads: int = 4

    @property
    def values(self) -> dict[str, int]:
        """Values over the preset nezha-4l-312."""
        return {
            "layers": self.layers,
            "width": self.width,
            "heads": self.heads,
            "inner_width": 4 * self.width,
            "layer_groups": self.layers,
            "embed_width": self.width,
        }


@dataclass(frozen=True, kw_only=True)
class Scale:
    """What decides how long the demo takes."""

    vocabulary: int
    """Pieces. The classic 21,128 are far too many for three million characters."""
    teacher: Shape
    student: Shape
    pretrain_steps: int
    general_steps: int
    batch_pieces: int
    reviews_train: int
    ner_train: int
    reviews_test: int
    ner_test: int
    teacher_epochs: float
    student_epochs: float
    inside_epochs: float
    copies: int
    """Augmented texts a row."""
    seeds: tuple[int, ...]
    """More than one: every comparison of the experiment is run for each."""


SCALES = {
    "small": Scale(
        vocabulary=6000,
        teacher=Shape(layers=3, width=192),
        student=Shape(layers=2, width=96),
        pretrain_steps=300,
        general_steps=150,
        batch_pieces=4096,
        reviews_train=1500,
        ner_train=2000,
        reviews_test=1000,
        ner_test=1000,
        teacher_epochs=3,
        student_epochs=3,
        inside_epochs=1,
        copies=3,
        seeds=(1,),
    ),
    "full": Scale(
        vocabulary=6000,
        teacher=Shape(layers=4, width=192),
        student=Shape(layers=2, width=96),
        pretrain_steps=2000,
        general_steps=600,
        batch_pieces=4096,
        reviews_train=1500,
        ner_train=2000,
        reviews_test=3000,
        ner_test=1500,
        teacher_epochs=4,
        student_epochs=4,
        inside_epochs=2,
        copies=5,
        seeds=(1, 2, 3, 4, 5),
    ),
}
