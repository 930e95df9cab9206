"""A benchmark goes on when the program beside it ends: the row says so, and the next case has a new one."""

from __future__ import annotations

import json
import runpy
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

HOUSE = Path(__file__).parents[2] / "benchmarks"

PEER = """
import json, os, signal, sys
for line in sys.stdin:
    question = json.loads(line)
    if question["do"] == "prepare":
        dies = question.get("dies")
        if dies == "in prepare":
            sys.exit(3)
        runs = 0
    elif question["do"] == "run":
        runs += 1
        if dies == "in run" and runs == 2:
            os.kill(os.getpid(), signal.SIGKILL)
    print(json.dumps({"prepare": "1.0", "run": 0.5, "resident": 7.0}[question["do"]]), flush=True)
"""


@pytest.fixture
def measure(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.syspath_prepend(str(HOUSE))
    import measure

    return measure


@pytest.fixture
def script(tmp_path: Path) -> Path:
    path = tmp_path / "peer.py"
    path.write_text(PEER)
    return path


def test_a_peer_that_ended_is_started_anew(measure: Any, script: Path) -> None:
    peer = measure.Peer(str(script), python=Path(sys.executable))
    with pytest.raises(measure.EndedError, match=r"peer.py ended with 3"):
        peer.ask(do="prepare", dies="in prepare")
    assert peer.ask(do="prepare", dies="in run") == "1.0"
    assert peer.run() == 0.5
    with pytest.raises(measure.EndedError, match=r"peer.py was killed by SIGKILL"):
        peer.run()
    assert peer.ask(do="prepare") == "1.0"
    peer.close()
    peer.close()


@pytest.mark.parametrize("dies", ["in prepare", "in run"])
def test_pretraining_is_timed_on_where_the_peer_dies(
    dies: str,
    measure: Any,
    script: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Of three cases the second is too large for it."""
    made = {name: np.arange(8) for name in ("pieces", "asked_at", "asked_pieces")} | {
        "lengths": np.array([8])
    }
    benchmark = runpy.run_path(str(HOUSE / "pretrain.py"))
    run = benchmark["run"]
    monkeypatch.setitem(run.__globals__, "batches", lambda *_, **__: [made] * 4)
    still = SimpleNamespace(measure=lambda: None, mean_per_s=1e9, flops_per_s=2e9)
    monkeypatch.setitem(run.__globals__, "MatrixPeak", lambda *_: still)
    ours, peer = (measure.Peer(str(script), python=Path(sys.executable)) for _ in "ab")
    ask = peer.ask
    cases = ["nezha-4l312/L128/documents", "nezha-4l312/L512/documents", "bert-4l312/L128/documents"]
    for case in cases:
        more = {"dies": dies} if "L512" in case else {}
        monkeypatch.setattr(peer, "ask", lambda more=more, **question: ask(**question, **more))
        run(case, ours, peer, runs=3, quick=True)
    ours.close()
    peer.close()
    rows = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [row["case"] for row in rows] == cases
    for row in (rows[0], rows[2]):
        assert row["peer"] == row["ours"] == 16.0
        assert row["peer_peak_mib"] == row["ours_peak_mib"] == 7.0
        assert "peer_ended" not in row
    lost = rows[1]
    assert lost["ours"] == 16.0
    assert lost["ours_peak_mib"] == 7.0
    of_peer = [name for name in lost if name.startswith("peer") and name not in ("peer_name", "peer_ended")]
    assert {lost[name] for name in [*of_peer, "ratio"]} == {None}
    assert len(of_peer) == 4
    assert "peer.py" in lost["peer_ended"]
