"""The service in process: every answer, every refusal, and batches under load."""

from __future__ import annotations

import asyncio
import json
import re
import shutil
import threading
from contextlib import asynccontextmanager
from dataclasses import replace

import httpx
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from prometheus_client.parser import text_string_to_metric_families
from tests.serve.made_models import CHARACTERS, CLASSES, class_scores

from fenghuo.serve.app import create_app
from fenghuo.serve.gate import Limits
from fenghuo.serve.predictor import load_predictor

TEXT = "服务很好"


@asynccontextmanager
async def service(folder, *, predictor=None, **options):
    """A client of a running service, and the gate around it."""
    gate = create_app(predictor or load_predictor(folder, threads=1), **options)
    routes = gate._app
    transport = httpx.ASGITransport(app=gate, raise_app_exceptions=False)
    async with (
        routes.router.lifespan_context(routes),
        httpx.AsyncClient(transport=transport, base_url="http://service") as client,
    ):
        yield client, gate


def send(folder, path="/predict", *, method="POST", **request):
    """One request to a fresh service."""
    options = {name: request.pop(name) for name in ("limits", "api_key", "predictor") if name in request}

    async def main():
        async with service(folder, **options) as (client, _):
            return await client.request(method, path, **request)

    return asyncio.run(main())


def figures(page: str) -> dict[str, float]:
    """Sums and counts of the metrics page, by name and labels."""
    return {
        sample.name + "".join(f"|{value}" for _, value in sorted(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(page)
        for sample in family.samples
        if "le" not in sample.labels
    }


class Held:
    """A predictor whose model can be held, so that requests pile up."""

    def __init__(self, folder) -> None:
        self._predictor = load_predictor(folder, threads=1)
        self.gate, self.batches = threading.Event(), []
        self.gate.set()

    def __getattr__(self, name):
        return getattr(self._predictor, name)

    def logits(self, batch):
        self.batches.append(len(batch))
        assert self.gate.wait(20)
        return self._predictor.logits(batch)


async def until(condition) -> None:
    for _ in range(4000):
        if condition():
            return
        await asyncio.sleep(0.002)
    raise AssertionError("it never came")


# ---- answers ----


def test_one_row_gives_one_answer_and_a_list_a_list(folders):
    direct = load_predictor(folders["classify"])([TEXT])[0]
    assert send(folders["classify"], json={"text": TEXT}).json() == direct
    many = send(folders["classify"], json=[{"id": "a", "text": TEXT}, TEXT, {"text": TEXT, "id": 0}]).json()
    assert [answer.pop("id", None) for answer in many] == ["a", None, 0]
    assert many == [direct] * 3


def test_all_scores_are_given_on_demand(folders):
    answer = send(folders["classify"], "/predict?all_scores=true", json={"text": TEXT}).json()
    assert answer["scores"] == pytest.approx(dict(zip(CLASSES, class_scores(TEXT), strict=True)), abs=1e-5)


def test_pairs_regressions_and_tags_answer_too(folders):
    pair = send(folders["pair"], json=[{"text": "好", "text_pair": "坏"}, ["好", "坏"]]).json()
    assert pair[0] == pair[1]
    assert set(send(folders["regress"], json={"text": "好"}).json()) == {"score"}
    reply = send(folders["tag"], "/tag", json={"id": 1, "text": "😀张三在北京"})
    assert [(e["start"], e["end"], e["label"], e["text"]) for e in reply.json()["entities"]] == [
        (1, 3, "PER", "张三"),
        (4, 6, "LOC", "北京"),
    ]
    assert reply.json()["id"] == 1
    tokens = send(folders["tag"], "/tag", json={"tokens": ["张", "三"]}).json()
    assert tokens["entities"][0]["text"] == "张三"


def test_a_long_text_is_tagged_whole_and_other_work_is_done_meanwhile(folders):
    text = "我在北京，" * 1200
    entities = send(folders["tag"], "/tag", json={"text": text}).json()["entities"]
    assert [entity["start"] for entity in entities] == list(range(2, 6000, 5))


@pytest.mark.parametrize(
    ("inputs", "texts"),
    [
        (TEXT, [(TEXT, "")]),
        ([TEXT], [(TEXT, "")]),
        ([[TEXT], ["坏"]], [(TEXT, ""), ("坏", "")]),
    ],
)
def test_inputs_in_the_shape_of_text_embeddings_inference(folders, inputs, texts):
    found = send(folders["classify"], json={"inputs": inputs}).json()
    answers = found if isinstance(inputs[0], list) else [found]
    for (text, pair), answer in zip(texts, answers, strict=True):
        scores = {one["label"]: one["score"] for one in answer}
        assert scores == pytest.approx(dict(zip(CLASSES, class_scores(text, pair), strict=True)), abs=1e-5)
        assert [one["score"] for one in answer] == sorted(scores.values(), reverse=True)


def test_pairs_and_raw_scores_of_text_embeddings_inference(folders):
    (one,), two = (
        send(folders["pair"], json={"inputs": inputs}).json() for inputs in ([["好", "坏"]], ["好", "坏"])
    )
    assert one == two
    raw = send(folders["pair"], json={"inputs": ["好", "坏"], "raw_scores": True}).json()
    powers = np.exp([answer["score"] for answer in raw])
    assert [answer["score"] for answer in two] == pytest.approx(powers / powers.sum(), abs=1e-5)
    number = send(folders["regress"], json={"inputs": "好"}).json()
    assert number == [
        {"score": send(folders["regress"], json={"text": "好"}).json()["score"], "label": "LABEL_0"}
    ]


# ---- refusals ----


@pytest.mark.parametrize(
    ("status", "request_", "message"),
    [
        (400, {"content": b"{"}, "not JSON"),
        (400, {"content": b""}, "not JSON"),
        (400, {"content": b'"\xff"'}, "not UTF-8"),
        (400, {"content": b"[" * 50_000}, "not usable JSON"),
        (413, {"content": b" " * 2001}, "larger than 2000 bytes"),
        (413, {"json": ["好"] * 5}, "5 rows, where 4 are allowed"),
        (413, {"json": ["好", "好" * 101]}, "row 1: 101 characters, where 100 are allowed"),
        (413, {"json": {"inputs": "好" * 40, "truncate": False}}, "longer than 32 pieces"),
        (
            415,
            {"content": b"{}", "headers": {"content-type": "text/plain"}},
            "Content-Type: application/json",
        ),
        (422, {"json": {}}, "no 'text' in it"),
        (422, {"json": {"text": 5}}, "'text' must be text"),
        (422, {"json": {"text": " "}}, "'text' is empty"),
        (422, {"json": []}, "was wanted"),
        (422, {"json": 7}, "was wanted"),
        (422, {"json": ["好", 7]}, "row 1: "),
        (422, {"json": {"text": "好", "text_pair": "坏"}}, "takes one text"),
        (422, {"json": {"inputs": []}}, "'inputs' must be"),
        (422, {"json": {"inputs": [["好", "坏", "好"]]}}, "a sequence in 'inputs'"),
        (422, {"json": {"inputs": "好", "truncate": "no"}}, "true or false"),
        (422, {"json": {"text": "好"}, "params": {"all_scores": "perhaps"}}, "all_scores"),
    ],
)
def test_what_cannot_be_answered_is_refused_with_a_reason(folders, status, request_, message):
    limits = Limits(body_bytes=60_000 if status == 400 else 2000, rows=4, characters=100)
    headers = {"content-type": "application/json", **request_.pop("headers", {})}
    reply = send(folders["classify"], limits=limits, headers=headers, **request_)
    assert reply.status_code == status
    assert set(reply.json()) == {"error", "error_type"}
    assert message in reply.json()["error"]
    assert reply.headers["content-type"] == "application/json"
    assert reply.headers["x-request-id"]


def test_unknown_routes_and_methods_are_json_errors_too(folders):
    for method, path, status in (("GET", "/nothing", 404), ("POST", "/tag", 404), ("GET", "/predict", 405)):
        reply = send(folders["classify"], path, method=method)
        assert reply.status_code == status
        assert set(reply.json()) == {"error", "error_type"}


def test_a_body_is_counted_as_it_comes_whatever_its_length_says(folders):
    async def chunks():
        for _ in range(30):
            yield b" " * 100

    headers = {"content-type": "application/json"}
    reply = send(folders["classify"], limits=Limits(body_bytes=2000), content=chunks(), headers=headers)
    assert (reply.status_code, reply.json()["error_type"]) == (413, "validation")

    async def slow():
        yield b"{"
        await asyncio.sleep(5)

    reply = send(folders["classify"], limits=Limits(body_s=0.05), content=slow(), headers=headers)
    assert reply.status_code == 408


def test_a_request_that_the_queue_could_never_hold_is_too_large_not_too_busy(folders):
    reply = send(folders["tag"], "/tag", limits=Limits(queue=3), json={"text": "我" * 200})
    assert reply.status_code == 413
    assert "where the queue holds 3" in reply.json()["error"]


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(st.sampled_from(["text", "text_pair", "inputs", "id", "tokens", "truncate"]), inner)
    ),
    max_leaves=8,
)


@pytest.mark.slow
@settings(deadline=None, max_examples=60)
@given(bodies=st.lists(json_values, min_size=1, max_size=8))
def test_no_json_whatever_makes_the_service_fail(folders, bodies):
    async def main():
        for kind in ("classify", "pair", "tag"):
            async with service(folders[kind]) as (client, _):
                for body in bodies:
                    content = json.dumps(body).encode()
                    path, headers = (
                        "/tag" if kind == "tag" else "/predict",
                        {"content-type": "application/json"},
                    )
                    reply = await client.post(path, content=content, headers=headers)
                    assert reply.status_code in (200, 400, 422), (body, reply.text)
                    reply.json()

    asyncio.run(main())


def test_a_failing_model_is_an_error_of_that_request_alone(folders, capsys):
    class Fails(Held):
        def logits(self, batch):
            if any(2 in one.ids and 7 in one.ids for one in batch):
                raise ZeroDivisionError("unlucky")
            return super().logits(batch)

    async def both():
        async with service(None, predictor=Fails(folders["classify"])) as (client, _):
            return await client.post("/predict", json={"text": "的"}), await client.post(
                "/predict", json={"text": "好"}
            )

    failed, fine = asyncio.run(both())
    assert (failed.status_code, failed.json()) == (
        500,
        {"error": "internal error (ZeroDivisionError)", "error_type": "backend"},
    )
    assert fine.status_code == 200
    assert failed.headers["x-request-id"] in capsys.readouterr().err


# ---- load ----


def test_sixty_four_clients_are_answered_in_batches_each_with_its_own_answer(folders):
    rng = np.random.default_rng(5)
    chinese = CHARACTERS[:-4]  # two Latin letters would become one piece
    texts = ["".join(rng.choice(chinese, size=rng.integers(1, 29))) for _ in range(64)]
    predictor = Held(folders["classify"])

    async def main():
        async with service(None, predictor=predictor, limits=Limits(batch_tokens=256)) as (client, _):
            predictor.gate.clear()
            asked = [
                asyncio.create_task(client.post("/predict?all_scores=true", json={"id": n, "text": text}))
                for n, text in enumerate(texts)
            ]
            await until(lambda: predictor.batches)
            await asyncio.sleep(0.2)
            predictor.gate.set()
            replies = await asyncio.gather(*asked)
            return replies, figures((await client.get("/metrics")).text)

    replies, counted = asyncio.run(main())
    for number, (text, reply) in enumerate(zip(texts, replies, strict=True)):
        answer, share = reply.json(), class_scores(text)
        assert answer["id"] == number
        assert answer["label"] == CLASSES[int(share.argmax())]
        assert answer["scores"] == pytest.approx(dict(zip(CLASSES, share, strict=True)), abs=1e-5)
    assert sum(predictor.batches) == 64
    assert len(predictor.batches) < 24
    assert counted["fenghuo_batch_size_sum"] == 64 == counted["fenghuo_queue_seconds_count"]
    assert (
        counted["fenghuo_batch_size_count"]
        == len(predictor.batches)
        == counted["fenghuo_inference_seconds_count"]
    )
    assert counted["fenghuo_batch_tokens_sum"] == sum(len(text) + 2 for text in texts)
    assert counted["fenghuo_requests_total|/predict|200"] == 64 == counted["fenghuo_tokenize_seconds_count"]


def test_a_full_queue_answers_429_and_takes_work_again_later(folders):
    predictor = Held(folders["classify"])

    async def main():
        async with service(None, predictor=predictor, limits=Limits(queue=2)) as (client, _):
            predictor.gate.clear()
            running = asyncio.create_task(client.post("/predict", json={"text": TEXT}))
            await until(lambda: predictor.batches)
            waiting = asyncio.create_task(client.post("/predict", json=[TEXT, TEXT]))
            await asyncio.sleep(0.1)
            assert figures((await client.get("/metrics")).text)["fenghuo_queue_depth"] == 2
            refused = await client.post("/predict", json={"text": TEXT})
            predictor.gate.set()
            later = [reply.status_code for reply in await asyncio.gather(running, waiting)]
            return refused, [*later, (await client.post("/predict", json={"text": TEXT})).status_code]

    refused, others = asyncio.run(main())
    assert (refused.status_code, refused.json()["error_type"]) == (429, "overloaded")
    assert refused.headers["retry-after"] == "1"
    assert others == [200, 200, 200]


def test_requests_beyond_what_could_ever_wait_are_refused_before_their_body_is_read(folders):
    predictor = Held(folders["classify"])

    async def main():
        async with service(None, predictor=predictor, limits=Limits(queue=1)) as (client, gate):
            predictor.gate.clear()
            first = asyncio.create_task(client.post("/predict", json={"text": TEXT}))
            await until(lambda: predictor.batches)
            second = asyncio.create_task(client.post("/predict", json={"text": TEXT}))
            await until(lambda: gate.in_flight == 2)
            refused = await client.post("/predict", content=b"never read")
            predictor.gate.set()
            await asyncio.gather(first, second)
            return refused, gate.in_flight

    refused, left = asyncio.run(main())
    assert refused.status_code == 429
    assert left == 0


# ---- around the answers ----


def test_a_key_is_asked_for_where_work_or_knowledge_is_given(folders):
    async def main():
        async with service(folders["classify"], api_key="sésame") as (client, _):
            for headers in (
                {},
                {"x-api-key": "wrong"},
                {"authorization": "Bearer wrong"},
                {"authorization": "Basic sésame".encode()},
            ):
                for path in ("/predict", "/info", "/metrics"):
                    reply = await client.post(path, json={"text": TEXT}, headers=headers)
                    assert (reply.status_code, reply.json()["error_type"]) == (401, "unauthorized")
                    assert reply.headers["www-authenticate"] == "Bearer"
            for headers in ({"x-api-key": "sésame".encode()}, {"authorization": "bearer sésame".encode()}):
                assert (
                    await client.post("/predict", json={"text": TEXT}, headers=headers)
                ).status_code == 200
            for path in ("/", "/docs", "/openapi.json", "/health/live", "/health/ready"):
                assert (await client.get(path)).status_code == 200

    asyncio.run(main())


def test_a_request_keeps_its_id_unless_that_could_do_harm(folders):
    ids = {"job-7/a": True, "x" * 129: False, "a b": False, "": False}
    for given_id, kept in ids.items():
        reply = send(folders["classify"], "/info", method="GET", headers={"x-request-id": given_id})
        assert (reply.headers["x-request-id"] == given_id) is kept
        assert reply.headers["x-request-id"]


def test_while_draining_work_is_refused_and_probes_say_so(folders):
    async def main():
        async with service(folders["classify"]) as (client, gate):
            gate.draining = True
            refused = await client.post("/predict", json={"text": TEXT})
            assert (refused.status_code, refused.json()["error_type"]) == (503, "unhealthy")
            assert refused.headers["connection"] == "close"
            assert (await client.get("/health/ready")).status_code == 503
            assert (await client.get("/health/live")).json() == {"status": "live"}
            assert (await client.get("/metrics")).status_code == 200

    asyncio.run(main())


def test_metrics_count_truncations_and_fold_unknown_paths_together(folders):
    async def main():
        async with service(folders["classify"]) as (client, _):
            await client.post("/predict", json=["好" * 31, "好" * 30])
            for path in ("/a", "/b"):
                await client.get(path)
            return figures((await client.get("/metrics")).text)

    counted = asyncio.run(main())
    assert counted["fenghuo_truncations_total"] == 1
    assert (
        counted["fenghuo_requests_total|other|404"] == 2 == counted["fenghuo_request_seconds_count|other|404"]
    )
    assert counted["fenghuo_queue_depth"] == 0


def test_info_tells_the_model_what_computes_it_and_the_limits(folders):
    found = send(folders["classify"], "/info", method="GET", limits=replace(Limits(), rows=9)).json()
    assert found["task"] == {"kind": "classify", "labels": CLASSES, "max_length": 32}
    assert (found["model"], found["backend"], found["threads"]) == ("classify", "onnx", 1)
    assert found["limits"]["rows"] == 9
    assert str(folders["classify"].parent) not in json.dumps(found)


def test_a_runs_model_goes_by_the_runs_name(folders, tmp_path):
    shutil.copytree(folders["classify"], tmp_path / "reviews" / "model")
    alone = send(tmp_path / "reviews" / "model", "/info", method="GET").json()
    assert alone["model"] == "model", "no run, so the folder above says nothing"
    (tmp_path / "reviews" / "recipe.yaml").touch()
    assert send(tmp_path / "reviews", "/info", method="GET").json()["model"] == "reviews"
    assert send(tmp_path / "reviews" / "model", "/openapi.json", method="GET").json()["info"]["title"] == (
        "fenghuo: reviews"
    )


@pytest.mark.parametrize("kind", ["classify", "pair", "regress", "tag"])
def test_the_documented_example_is_answered_as_documented(folders, kind):
    api = send(folders[kind], "/openapi.json", method="GET").json()
    path = "/tag" if kind == "tag" else "/predict"
    assert [one for one in api["paths"] if one in ("/tag", "/predict")] == [path]
    documented = api["paths"][path]["post"]
    reply = send(
        folders[kind], path, json=documented["requestBody"]["content"]["application/json"]["example"]
    )
    one = documented["responses"]["200"]["content"]["application/json"]["schema"]["oneOf"][0]
    assert set(one["required"]) <= set(reply.json()) <= set(one["properties"])
    assert {"400", "401", "413", "422", "429", "503"} <= set(documented["responses"])


@pytest.mark.parametrize("path", ["/", "/docs"])
def test_a_page_needs_no_other_host(folders, path):
    reply = send(folders["classify"], path, method="GET")
    assert reply.headers["content-type"].startswith("text/html")
    assert "connect-src 'self'" in reply.headers["content-security-policy"]
    assert set(re.findall(r"https?://[^\s'\"]+", reply.text)) <= {"http://www.w3.org/2000/svg"}
    assert not re.search(r"<script[^>]+src|<link[^>]+stylesheet|@import|url\(", reply.text)
    assert "innerHTML" not in reply.text
