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
    def values(self) -> dict[str, int | float]:
        """Values over the preset nezha-4l-312.

        No dropout: text that is read a few times only is not learned by heart. Weights begin wider than BERT's 0.02,
        which suits a width of 768 and leaves narrow nets slow to start.
        """
        return {
            "layers": self.layers,
            "layer_groups": self.layers,
            "width": self.width,
            "embed_width": self.width,
            "inner_width": 4 * self.width,
            "heads": self.heads,
            "dropout": 0.0,
            "attention_dropout": 0.0,
            "initializer_range": 0.05,
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
        pretrain_steps=900,
        general_steps=300,
        batch_pieces=1024,
        reviews_train=600,
        ner_train=600,
        reviews_test=1000,
        ner_test=1000,
        teacher_epochs=5,
        student_epochs=2,
        inside_epochs=1,
        copies=3,
        seeds=(1,),
    ),
    "full": Scale(
        vocabulary=6000,
        teacher=Shape(layers=3, width=192),
        student=Shape(layers=2, width=96),
        pretrain_steps=10000,
        general_steps=2000,
        batch_pieces=1024,
        reviews_train=600,
        ner_train=1000,
        reviews_test=2000,
        ner_test=1500,
        teacher_epochs=6,
        student_epochs=2,
        inside_epochs=1,
        copies=3,
        seeds=(1, 2, 3, 4, 5),
    ),
}
