"""The routes: a predictor behind a batcher, as an ASGI application."""

from __future__ import annotations

from contextlib import asynccontextmanager
from dataclasses import asdict
from importlib import resources
from typing import TYPE_CHECKING, Any

from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import HTMLResponse, PlainTextResponse
from starlette.exceptions import HTTPException

from fenghuo import __version__
from fenghuo.errors import DataError
from fenghuo.serve import schema
from fenghuo.serve.batcher import BusyError
from fenghuo.serve.gate import Gate, Limits, RefusedError
from fenghuo.serve.rows import BadJsonError, parse_json, to_json
from fenghuo.serve.service import Service
from fenghuo.serve.tei_shape import predictions, read_inputs

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

    from fenghuo.serve.predictor import Predictor

PAGE_POLICY = "; ".join(
    (
        "default-src 'none'",
        "style-src 'unsafe-inline'",
        "script-src 'unsafe-inline'",
        "connect-src 'self'",
        "img-src data:",
    )
)
"""A page may talk to this service and to nobody else: it works offline, and a text can load nothing."""


def create_app(predictor: Predictor, *, limits: Limits | None = None, api_key: str | None = None) -> Gate:
    """The whole service as an ASGI application.

    Args:
        predictor: the model.
        limits: what one client, and all together, may ask for.
        api_key: asked for by every route but the pages and the health probes; None asks for none.
    """
    limits = limits or Limits()
    service = Service(predictor, limits)

    @asynccontextmanager
    async def life(_: FastAPI) -> AsyncIterator[None]:
        service.start()
        yield
        await service.stop()

    app = FastAPI(
        title=f"fenghuo: {predictor.name}",
        version=__version__,
        lifespan=life,
        docs_url=None,  # FastAPI's own page loads from other hosts; ours is below
        redoc_url=None,
        responses=schema.ERRORS,
        exception_handlers=_HANDLERS,
    )
    work = _add_work(app, service)
    gate: list[Gate] = []
    _add_pages(app, service, lambda: gate[0].draining)
    known = frozenset(route.path for route in app.routes if hasattr(route, "path"))
    gate.append(Gate(app, metrics=service.metrics, limits=limits, api_key=api_key, work=work, known=known))
    return gate[0]


def _add_work(app: FastAPI, service: Service) -> frozenset[str]:
    """The route that fits the model's task, and no other."""

    async def tag(request: Request) -> Response:
        """Entities of a text by character, or of each text in a list."""
        rows, many = _rows(await _json(request))
        answers = await service.answers(rows, all_scores=False)
        return _reply(answers if many else answers[0])

    async def predict(request: Request, all_scores: bool = False) -> Response:
        """The class (or the number) of a text or pair, or of each one in a list.

        Also takes text-embeddings-inference's `{"inputs": …}` and then answers in its shape.
        """
        body = await _json(request)
        if isinstance(body, dict) and "inputs" in body:
            return _reply(await _tei(service, body))
        rows, many = _rows(body)
        answers = await service.answers(rows, all_scores=all_scores)
        return _reply(answers if many else answers[0])

    kind = service.predictor.task.kind
    path, route = ("/tag", tag) if kind == "tag" else ("/predict", predict)
    app.post(path, openapi_extra=schema.request_body(kind), responses=schema.answers(kind))(route)
    return frozenset({path})


def _add_pages(app: FastAPI, service: Service, draining: Callable[[], bool]) -> None:
    """Everything that computes nothing."""
    predictor, limits = service.predictor, service.limits

    @app.get("/health/live")
    async def live() -> dict[str, str]:
        """200 as long as the process answers at all."""
        return {"status": "live"}

    @app.get("/health/ready")
    async def ready() -> dict[str, str]:
        """200 while new questions are accepted; 503 once the service shuts down."""
        if draining():
            raise RefusedError(503, "the service is shutting down", "unhealthy")
        return {"status": "ready"}

    @app.get("/info")
    async def info() -> dict[str, Any]:
        """The model, what computes it, and the limits."""
        task = {"kind": predictor.task.kind, "labels": predictor.task.labels}
        return {
            "model": predictor.name,
            "task": task | {"max_length": predictor.task.max_length},
            "backend": predictor.backend,
            "threads": predictor.threads,
            "limits": asdict(limits),
            "version": __version__,
        }

    @app.get("/metrics", response_class=PlainTextResponse)
    async def metrics() -> Response:
        """Counts and times, for Prometheus."""
        return Response(service.metrics.page(), media_type="text/plain; version=0.0.4; charset=utf-8")

    app.get("/", include_in_schema=False)(_page("index.html"))
    app.get("/docs", include_in_schema=False)(_page("docs.html"))


def _page(name: str) -> Callable[[], Awaitable[Response]]:
    page = resources.files("fenghuo.serve").joinpath("page", name).read_bytes()
    headers = {"content-security-policy": PAGE_POLICY, "cache-control": "no-cache"}

    async def show() -> Response:
        return HTMLResponse(page, headers=headers)

    return show


async def _tei(service: Service, body: dict[str, Any]) -> Any:
    rows, many = read_inputs(body["inputs"])
    flags = {name: body.get(name, default) for name, default in (("truncate", True), ("raw_scores", False))}
    if not all(isinstance(flag, bool) for flag in flags.values()):
        raise DataError("'truncate' and 'raw_scores' are true or false")
    _, logits = await service.compute(rows, truncate=flags["truncate"])
    labels = service.predictor.task.labels
    answers = [predictions(found[0], labels, raw_scores=flags["raw_scores"]) for found in logits]
    return answers if many else answers[0]


async def _json(request: Request) -> Any:
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind != "application/json" and not kind.endswith("+json"):
        raise RefusedError(415, "send JSON with the header Content-Type: application/json", "validation")
    return parse_json(await request.body())


def _rows(body: Any) -> tuple[list[Any], bool]:
    """A request's rows, and whether a list of answers is wanted; in a list a bare text is a row too."""
    if isinstance(body, dict):
        return [body], False
    if not isinstance(body, list) or not body:
        raise DataError("an object with 'text', or a list of such rows, was wanted")
    return body, True


def _reply(answer: Any) -> Response:
    return Response(to_json(answer), media_type="application/json")


def _refused(_: Request, refused: Exception) -> Response:
    assert isinstance(refused, RefusedError)
    headers = {**refused.headers, "content-type": "application/json"}
    return Response(refused.body, refused.status, headers)


def _usual(problem: Exception) -> RefusedError:
    """Every other exception a route may raise, as the refusal it stands for."""
    match problem:
        case BusyError():
            return RefusedError(429, str(problem), "overloaded", **{"retry-after": "1"})
        case BadJsonError():
            return RefusedError(400, str(problem), "validation")
        case RequestValidationError():
            told = "; ".join(f"{error['loc'][-1]}: {error['msg']}" for error in problem.errors())
            return RefusedError(422, told, "validation")
        case HTTPException():
            if problem.status_code == 404:
                return RefusedError(404, "no such route; /docs lists those of this model", "not_found")
            return RefusedError(problem.status_code, str(problem.detail), "validation")
    return RefusedError(422, str(problem), "validation")


def _failed(_: Request, problem: Exception) -> Response:
    """The gate, which knows the request's id, logs the traceback."""
    return _refused(_, RefusedError(500, f"internal error ({type(problem).__name__})", "backend"))


_HANDLERS: dict[int | type[Exception], Any] = {
    RefusedError: _refused,
    Exception: _failed,
    **{
        kind: lambda request, problem: _refused(request, _usual(problem))
        for kind in (BusyError, DataError, RequestValidationError, HTTPException)
    },
}
