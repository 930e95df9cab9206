"""What the service counts, for Prometheus; in a registry of its own, so that services do not mix."""

from __future__ import annotations

from typing import TYPE_CHECKING

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

if TYPE_CHECKING:
    from collections.abc import Callable

    from fenghuo.serve.batcher import BatchReport

SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
SIZES = (1, 2, 4, 8, 16, 32, 64, 128, 256)
TOKENS = (16, 32, 64, 128, 256, 512, 1024, 2048, 4096, 8192, 16384)


class Metrics:
    """The figures of one service."""

    def __init__(self, queue_depth: Callable[[], int]) -> None:
        self.registry = CollectorRegistry()
        by = ("route", "status")
        self.requests = Counter(
            "fenghuo_requests", "Requests by route and status.", by, registry=self.registry
        )
        self.request_s = self._histogram("request_seconds", "From the first byte to the last.", SECONDS, by)
        self.tokenize_s = self._histogram("tokenize_seconds", "Texts to pieces, a request.", SECONDS)
        self.queue_s = self._histogram("queue_seconds", "Waiting for a batch, a sequence.", SECONDS)
        self.inference_s = self._histogram("inference_seconds", "The model, a batch.", SECONDS)
        self.batch_size = self._histogram("batch_size", "Sequences in a batch.", SIZES)
        self.batch_tokens = self._histogram("batch_tokens", "Pieces in a batch, without padding.", TOKENS)
        self.truncations = Counter(
            "fenghuo_truncations", "Texts longer than the model reads, cut.", registry=self.registry
        )
        depth = Gauge("fenghuo_queue_depth", "Sequences waiting now.", registry=self.registry)
        depth.set_function(queue_depth)

    def batch(self, report: BatchReport) -> None:
        """Count one batch."""
        self.batch_size.observe(report.size)
        self.batch_tokens.observe(report.tokens)
        self.inference_s.observe(report.inference_s)
        for queued_s in report.queued_s:
            self.queue_s.observe(queued_s)

    def request(self, route: str, status: int, spent_s: float) -> None:
        """Count one request."""
        self.requests.labels(route, str(status)).inc()
        self.request_s.labels(route, str(status)).observe(spent_s)

    def page(self) -> bytes:
        """The text that Prometheus reads."""
        return generate_latest(self.registry)

    def _histogram(
        self, name: str, told: str, buckets: tuple[float, ...], by: tuple[str, ...] = ()
    ) -> Histogram:
        return Histogram(f"fenghuo_{name}", told, by, buckets=buckets, registry=self.registry)
