"""What every request passes around the routes: an id, a key, the size of its body, the shutdown, a count."""

from __future__ import annotations

import asyncio
import hmac
import json
import re
import secrets
import time
import traceback
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from fenghuo.progress import say

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, MutableMapping

    from fenghuo.serve.metrics import Metrics

    Message = MutableMapping[str, Any]
    Receive = Callable[[], Awaitable[Message]]
    Send = Callable[[Message], Awaitable[None]]
    App = Callable[[Message, Receive, Send], Awaitable[None]]

OPEN = frozenset({"/", "/docs", "/openapi.json", "/health/live", "/health/ready"})
"""Routes that never ask for a key: pages and probes, which tell nothing of the model's work."""


@dataclass(frozen=True, kw_only=True)
class Limits:
    """How much one client, and all of them together, may ask for."""

    body_bytes: int = 1 << 20
    rows: int = 256
    """Of one request."""
    characters: int = 20_000
    """Of one row."""
    queue: int = 512
    """Sequences that wait."""
    batch_tokens: int = 2048
    """Of one batch, padding included."""
    body_s: float = 20.0
    """For the whole body to arrive."""


class RefusedError(Exception):
    """A request that gets an error instead of an answer."""

    def __init__(self, status: int, error: str, error_type: str, **headers: str) -> None:
        super().__init__(error)
        self.status, self.headers = status, headers
        self.body = json.dumps({"error": error, "error_type": error_type}, ensure_ascii=False).encode(
            errors="backslashreplace"
        )


class Gate:
    """ASGI around the routes.

    Args:
        app: the routes.
        work: routes that compute; they alone are limited, and refused while draining.
        known: all routes, for the metrics: an unknown path must not become a time series.
    """

    def __init__(
        self,
        app: App,
        *,
        metrics: Metrics,
        limits: Limits,
        api_key: str | None,
        work: frozenset[str],
        known: frozenset[str],
    ) -> None:
        self.draining = False
        self.in_flight = 0  # requests to `work` that were accepted
        self._app, self._metrics, self._limits = app, metrics, limits
        self._key = None if api_key is None else api_key.encode()
        self._work, self._known = work, known

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        """One request, or the server's start and end."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        reply = _Reply(send, _request_id(scope))
        started_s = time.perf_counter()
        try:
            await self._pass(scope, receive, reply)
        except RefusedError as refused:
            await reply.refuse(refused)
        except asyncio.CancelledError:  # only the end of the server cancels
            await reply.refuse(RefusedError(503, "the service was stopped", "unhealthy", connection="close"))
        except Exception:
            say(f"request {reply.request_id} failed:\n{traceback.format_exc()}")
            await reply.refuse(RefusedError(500, f"internal error, request {reply.request_id}", "backend"))
        finally:
            route = scope["path"] if scope["path"] in self._known else "other"
            self._metrics.request(route, reply.status, time.perf_counter() - started_s)

    async def _pass(self, scope: Message, receive: Receive, reply: _Reply) -> None:
        if self._key is not None and scope["path"] not in OPEN and not self._has_key(scope):
            told = {"www-authenticate": "Bearer"}
            raise RefusedError(
                401, "a key is needed: Authorization: Bearer … or X-API-Key", "unauthorized", **told
            )
        if scope["path"] not in self._work or scope["method"] != "POST":
            await self._app(scope, receive, reply.send)
            return
        if self.draining:
            raise RefusedError(
                503,
                "the service is shutting down",
                "unhealthy",
                **{"retry-after": "1", "connection": "close"},
            )
        if self.in_flight >= 2 * self._limits.queue:  # waiting ones, and those being read or computed
            raise RefusedError(429, "too many requests at once", "overloaded", **{"retry-after": "1"})
        self.in_flight += 1
        try:
            body = await self._body(scope, receive)
            await self._app(scope, _replay(body, receive), reply.send)
        finally:
            self.in_flight -= 1

    async def _body(self, scope: Message, receive: Receive) -> bytes:
        """The whole body, before anything is made of it. A client may lie about its length, or send none."""
        told = _header(scope, b"content-length")
        if told.isdigit() and int(told) > self._limits.body_bytes:
            raise self._too_big()
        parts: list[bytes] = []
        size = 0
        try:
            async with asyncio.timeout(self._limits.body_s):
                while True:
                    message = await receive()
                    if message["type"] == "http.disconnect":
                        raise RefusedError(400, "the client left before its body was whole", "validation")
                    parts.append(message.get("body", b""))
                    size += len(parts[-1])
                    if size > self._limits.body_bytes:
                        raise self._too_big()
                    if not message.get("more_body", False):
                        return b"".join(parts)
        except TimeoutError:
            told_s = f"{self._limits.body_s:g} s"
            raise RefusedError(
                408, f"the body was not whole after {told_s}", "validation", connection="close"
            ) from None

    def _too_big(self) -> RefusedError:
        error = f"the body is larger than {self._limits.body_bytes} bytes"
        return RefusedError(413, error, "validation", connection="close")

    def _has_key(self, scope: Message) -> bool:
        assert self._key is not None
        given = _header(scope, b"x-api-key")
        scheme, _, token = _header(scope, b"authorization").partition(b" ")
        if scheme.lower() == b"bearer":
            given = token.strip()
        return hmac.compare_digest(given, self._key)


class _Reply:
    """The way back: notes the status, and puts the request's id on it."""

    def __init__(self, send: Send, request_id: str) -> None:
        self.request_id, self.status = request_id, 500
        self._send, self._started = send, False

    async def send(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self._started, self.status = True, message["status"]
            message["headers"] = [*message.get("headers", []), (b"x-request-id", self.request_id.encode())]
        await self._send(message)

    async def refuse(self, refused: RefusedError) -> None:
        if self._started:  # too late for another status; the client sees a body that ends early
            return
        headers = {
            "content-type": "application/json",
            "content-length": str(len(refused.body)),
            **refused.headers,
        }
        raw = [(name.encode(), value.encode()) for name, value in headers.items()]
        await self.send({"type": "http.response.start", "status": refused.status, "headers": raw})
        await self.send({"type": "http.response.body", "body": refused.body})


def _replay(body: bytes, receive: Receive) -> Receive:
    whole: list[Message] = [{"type": "http.request", "body": body, "more_body": False}]

    async def next_message() -> Message:
        return whole.pop() if whole else await receive()

    return next_message


def _header(scope: Message, name: bytes) -> bytes:
    return next((value for key, value in scope["headers"] if key == name), b"")


def _request_id(scope: Message) -> str:
    """The client's, where it is fit to be logged and sent back; else a fresh one."""
    given: str = _header(scope, b"x-request-id").decode("latin-1")
    return given if re.fullmatch(r"[\w.:/+=-]{1,128}", given, re.ASCII) else secrets.token_hex(8)
