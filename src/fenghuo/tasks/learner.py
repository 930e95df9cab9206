"""Fine-tuning as the training loop sees it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from fenghuo.net.model import Model
from fenghuo.tasks.task import Task, asked_labels
from fenghuo.training.loop import Terms


class TaskLearner:
    """Fine-tuning's learner: cross-entropy with the gold labels."""

    def __init__(self, model: Model, task: Task) -> None:
        self.model, self.task = model, task

    def counts(self, batch: Mapping[str, NDArray[Any]]) -> dict[str, float]:
        """Asked sequences or pieces."""
        asked = float(len(asked_labels(batch)))
        return {"label": asked, "right": asked}

    def terms(self, batch: Mapping[str, Tensor]) -> Terms:
        """Cross-entropy in nats, and right answers."""
        logits_NC, labels_N = self.task.asked(self.model, batch), asked_labels(batch)
        loss = F.cross_entropy(logits_NC.float(), labels_N, reduction="sum")
        return Terms({"label": loss}, {"right": (logits_NC.argmax(-1) == labels_N).sum()})
