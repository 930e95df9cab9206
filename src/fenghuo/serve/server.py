"""`fenghuo serve`: the application on a socket, from the first request to an orderly end."""

from __future__ import annotations

import errno
import os
import socket
import time
from typing import TYPE_CHECKING

from fenghuo.errors import MissingExtraError, UsageError
from fenghuo.progress import say

try:
    import uvicorn

    from fenghuo.serve.app import create_app
except ImportError as problem:
    raise MissingExtraError(str(problem.name), "serve") from problem

from fenghuo.serve.gate import Gate, Limits
from fenghuo.serve.predictor import load_predictor

if TYPE_CHECKING:
    from pathlib import Path
    from types import FrameType

DRAIN_S = 30.0
"""How long accepted requests may take after SIGTERM; Kubernetes kills after as much."""
KEY_VARIABLE = "FENGHUO_API_KEY"


def serve(
    model: str | Path,
    *,
    host: str = "127.0.0.1",
    port: int = 8000,
    threads: int | None = None,
    max_batch_tokens: int = Limits.batch_tokens,
    max_queue: int = Limits.queue,
    api_key: str | None = None,
) -> None:
    """Serve a model folder until SIGTERM or Ctrl-C, then finish what was accepted.

    Args:
        model: a fine-tuned model folder, exported or not.
        port: 0 takes any free one. The address is printed to stdout once requests are accepted.
        threads: of one batch; absent: the cores this process may use.
        max_batch_tokens: of one batch, padding included.
        max_queue: sequences that may wait; more get 429.
        api_key: asked for by every route but the pages and the health probes; absent: that in the
            environment's FENGHUO_API_KEY, which `ps` does not show.

    Raises:
        ModelError: see `load_predictor`.
        UsageError: the address cannot be had, or an option makes no sense.
    """
    if max_batch_tokens < 1 or max_queue < 1:
        raise UsageError("--max-batch-tokens and --max-queue are at least 1")
    if threads is not None and threads < 1:
        raise UsageError(f"--threads {threads}: at least 1 thread computes")
    api_key = os.environ.get(KEY_VARIABLE) if api_key is None else api_key
    if api_key == "":
        raise UsageError("the API key is empty, which would be no protection")
    with _listen(host, port) as listener:
        predictor = load_predictor(model, threads=threads)
        limits = Limits(queue=max_queue, batch_tokens=max(max_batch_tokens, predictor.task.max_length))
        gate = create_app(predictor, limits=limits, api_key=api_key)
        config = uvicorn.Config(
            gate,
            log_config=None,
            log_level="error",
            access_log=False,
            server_header=False,
            ws="none",
            lifespan="on",
        )
        told = f"{predictor.folder}: task {predictor.task.kind}, {predictor.backend}, {predictor.threads} threads"
        say(told + ("" if api_key else ", no API key"))
        _Server(config, gate, _address(listener)).run(sockets=[listener])


class _Server(uvicorn.Server):
    """uvicorn, which would refuse connections at once on SIGTERM, with a time in which it answers 503."""

    def __init__(self, config: uvicorn.Config, gate: Gate, address: str) -> None:
        super().__init__(config)
        self._gate, self._address = gate, address
        self._deadline_s = 0.0

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Also say where, when it is true."""
        await super().startup(sockets)
        print(self._address, flush=True)

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """The first signal drains, the second ends at once. The exit code is 0: it was asked to stop."""
        if self._gate.draining:
            self._deadline_s = 0.0
            return
        self._gate.draining = True
        self._deadline_s = time.monotonic() + DRAIN_S
        say(f"stopping: {self._gate.in_flight} requests to finish")

    async def on_tick(self, counter: int) -> bool:
        """Every 0.1 s: whether to end now."""
        if self._gate.draining and (not self._gate.in_flight or time.monotonic() > self._deadline_s):
            return True
        return await super().on_tick(counter)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """What is still in flight has had its time, and is told so by the gate."""
        for task in self.server_state.tasks:
            task.cancel()
        await super().shutdown(sockets)


def _listen(host: str, port: int) -> socket.socket:
    """A listening socket, taken before the model is loaded: a wrong port is told in no time."""
    if not 0 <= port < 1 << 16:
        raise UsageError(f"--port {port}: a port is 0 to 65535")
    listener = None
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        listener = socket.socket(family, kind, protocol)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address)
    except OSError as problem:
        if listener is not None:
            listener.close()
        way_out = (
            "; choose another --port, or 0 for any free one" if problem.errno == errno.EADDRINUSE else ""
        )
        reason = problem.strerror or problem
        raise UsageError(f"cannot listen on {host}:{port}: {reason}{way_out}") from problem
    return listener


def _address(listener: socket.socket) -> str:
    host, port = listener.getsockname()[:2]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
