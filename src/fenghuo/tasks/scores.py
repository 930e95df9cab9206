"""Answers against gold: accuracy and F1 of classes, entity-level F1 of spans."""

from __future__ import annotations

from collections.abc import Sequence

from fenghuo.tasks.read_data import Span


def class_scores(gold: Sequence[str], given: Sequence[str]) -> dict[str, float]:
    """Accuracy and macro F1 (mean over the gold classes), each 0 … 1."""
    from sklearn.metrics import accuracy_score, f1_score

    labels = sorted(set(gold))
    return {
        "accuracy": float(accuracy_score(gold, given)),
        "macro_f1": float(f1_score(gold, given, labels=labels, average="macro", zero_division=0.0)),
    }


def entity_scores(gold: Sequence[Sequence[Span]], given: Sequence[Sequence[Span]]) -> dict[str, float]:
    """Micro precision, recall and F1 over entities; right means same start, end and label.

    Source: the CoNLL-2003 definition (Tjong Kim Sang and De Meulder 2003), on character spans.
    """
    right = sum(len(set(a) & set(b)) for a, b in zip(gold, given, strict=True))
    wanted, found = sum(len(set(a)) for a in gold), sum(len(set(b)) for b in given)
    return {
        "f1": 2 * right / (wanted + found) if wanted + found else 1.0,
        "precision": right / found if found else 0.0,
        "recall": right / wanted if wanted else 0.0,
    }
