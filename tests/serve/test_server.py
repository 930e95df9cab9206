"""The service as a process: without torch, on a port, until SIGTERM."""

from __future__ import annotations

import re
import signal
import socket
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import httpx
import pytest

from fenghuo.errors import ModelError, UsageError
from fenghuo.serve.server import serve

# A process in which importing torch, or what only training needs, fails as if it were not installed.
WITHOUT_TORCH = """
import sys
class Blocked:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in {"torch", "safetensors", "pyarrow", "datatrove", "sklearn", "onnx", "transformers"}:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)
sys.meta_path.insert(0, Blocked())
"""
SERVE = WITHOUT_TORCH + "from fenghuo.serve.server import serve\nserve(sys.argv[1], port=0, threads=1)\n"
SLOW = (
    WITHOUT_TORCH
    + """
import time
from fenghuo.serve import server
from fenghuo.serve.predictor import Predictor
quick = Predictor.logits
def slow(self, batch):
    time.sleep(0.8)
    return quick(self, batch)
load = server.load_predictor
def load_slow(*given, **named):
    predictor = load(*given, **named)
    Predictor.logits = slow
    return predictor
server.load_predictor = load_slow
server.serve(sys.argv[1], port=0, threads=1, max_batch_tokens=32)
"""
)


@contextmanager
def running(code: str, folder, *, env=None):
    """A server process and its address; killed at the end if it still lives."""
    process = subprocess.Popen(
        [sys.executable, "-W", "error", "-c", code, str(folder)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=env,
    )
    try:
        address = process.stdout.readline().strip()
        assert address.startswith("http://127.0.0.1:"), process.stderr.read()
        yield process, address
    finally:
        process.kill()
        process.communicate()


@pytest.mark.slow
def test_a_service_without_torch_answers_and_ends_with_zero(folders):
    with running(SERVE, folders["classify"]) as (process, address):
        answer = httpx.post(f"{address}/predict", json=[{"id": 1, "text": "服务很好"}, "差"], timeout=60)
        assert answer.status_code == 200
        assert [set(one) for one in answer.json()] == [{"id", "label", "score"}, {"label", "score"}]
        assert "风火" in httpx.get(address).text
        process.send_signal(signal.SIGTERM)
        out, err = process.communicate(timeout=60)
        assert process.returncode == 0
        assert out == ""
        assert "Traceback" not in err


@pytest.mark.slow
def test_sigterm_finishes_what_was_accepted_and_refuses_the_rest(folders):
    with (
        running(SLOW, folders["classify"]) as (process, address),
        httpx.Client(timeout=60) as client,
        ThreadPoolExecutor(3) as pool,
    ):
        asked = [pool.submit(client.post, f"{address}/predict", json={"text": "好" * 20}) for _ in range(3)]
        wait_for(lambda: waiting_in(client.get(f"{address}/metrics").text) == 2)
        process.send_signal(signal.SIGTERM)
        wait_for(lambda: client.get(f"{address}/health/ready").status_code == 503)
        refused = client.post(f"{address}/predict", json={"text": "好"})
        assert (refused.status_code, refused.json()["error_type"]) == (503, "unhealthy")
        assert [one.result().status_code for one in asked] == [200, 200, 200]
        assert process.wait(timeout=60) == 0
        with pytest.raises(httpx.ConnectError):
            client.get(address)


@pytest.mark.slow
def test_a_second_signal_ends_at_once(folders):
    with (
        running(SLOW, folders["classify"]) as (process, address),
        httpx.Client(timeout=60) as client,
        ThreadPoolExecutor(12) as pool,
    ):
        asked = [pool.submit(client.post, f"{address}/predict", json={"text": "好" * 20}) for _ in range(12)]
        wait_for(lambda: waiting_in(client.get(f"{address}/metrics").text) >= 5)
        process.send_signal(signal.SIGINT)
        wait_for(lambda: client.get(f"{address}/health/ready").status_code == 503)
        process.send_signal(signal.SIGINT)
        codes = [one.result().status_code for one in asked]
        _, err = process.communicate(timeout=60)
    assert codes.count(503) >= 3  # 10 s of work were asked for
    assert set(codes) <= {200, 503}
    assert process.returncode == 0
    assert "Traceback" not in err


def waiting_in(page: str) -> float:
    return float(re.search(r"^fenghuo_queue_depth (\S+)$", page, re.MULTILINE)[1])


def wait_for(condition) -> None:
    deadline_s = time.monotonic() + 60  # a busy machine is slow, not wrong
    while not condition():
        assert time.monotonic() < deadline_s
        time.sleep(0.01)


@pytest.mark.slow
def test_sixty_four_clients_over_the_wire(folders):
    texts = ["好坏差"[n % 3] * (n % 28 + 1) for n in range(256)]
    with running(SERVE, folders["classify"]) as (_, address):
        with httpx.Client(timeout=60) as client:
            alone = [client.post(f"{address}/predict", json={"text": text}).json() for text in texts[:84]]
        ready, found = threading.Barrier(64), {}

        def work(first: int) -> None:
            with httpx.Client(timeout=60) as client:
                ready.wait()
                for number in range(first, 256, 64):
                    reply = client.post(f"{address}/predict", json={"id": number, "text": texts[number]})
                    found[number] = (reply.status_code, reply.json())

        with ThreadPoolExecutor(64) as pool:
            list(pool.map(work, range(64)))
        page = httpx.get(f"{address}/metrics").text
    for number, (status, answer) in found.items():
        expected = alone[number % 84]  # texts repeat every 84
        assert (status, answer["id"], answer["label"]) == (200, number, expected["label"])
        assert answer["score"] == pytest.approx(expected["score"], abs=2e-6)
    assert len(found) == 256
    batches = float(page.split("fenghuo_batch_size_count ")[1].split()[0])
    assert batches < 84 + 256


def test_a_port_in_use_is_told_before_the_model_is_loaded(tmp_path):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(
            UsageError, match=rf"127\.0\.0\.1:{port}: Address already in use; choose another --port"
        ):
            serve(tmp_path / "no-model", port=port)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"port": 70_000}, "a port is 0 to 65535"),
        ({"host": "no.such.host.invalid"}, "cannot listen on no.such.host.invalid"),
        ({"max_queue": 0}, "at least 1"),
        ({"threads": 0}, "--threads 0"),
        ({"api_key": ""}, "the API key is empty"),
    ],
)
def test_options_that_make_no_sense_are_refused(tmp_path, options, message):
    with pytest.raises(UsageError, match=message):
        serve(tmp_path, **options)


def test_a_folder_that_is_no_model_is_refused(tmp_path):
    with pytest.raises(ModelError, match="not a model folder"):
        serve(tmp_path, port=0)


@pytest.mark.slow
def test_the_key_may_come_from_the_environment(folders, monkeypatch):
    monkeypatch.setenv("FENGHUO_API_KEY", "sesame")
    with running(SERVE, folders["classify"]) as (_, address):
        assert httpx.get(f"{address}/info").status_code == 401
        assert httpx.get(f"{address}/info", headers={"x-api-key": "sesame"}).status_code == 200


@pytest.mark.slow
def test_importing_the_service_loads_nothing_of_training():
    code = (
        "import sys, fenghuo.serve.server, fenghuo.serve.stream\n"
        "print(sorted({'torch', 'pyarrow', 'safetensors', 'sklearn', 'onnx', 'onnxruntime'} & sys.modules.keys()))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"
