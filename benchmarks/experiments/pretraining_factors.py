"""What counts in pretraining, one factor at a time from one base recipe, down to three tasks.

    .venv/bin/python benchmarks/experiments/pretraining_factors.py DATA --out runs/factors
    .venv/bin/python benchmarks/experiments/factors_records.py runs/factors FILE.jsonl

DATA: see `factors_data.py`. Every run is one of `fenghuo`, in a process of one thread: what is finished stays, what was
cut off goes on, so it can be stopped and started at will. `costs.jsonl` keeps the processor time of each process.
`factors_table.py` and `factors_curves.py` show what `factors_records.py` has written down.

The base: NEZHA's relative positions, whole words, dynamic masks, AdamW. Arms with three seeds of pretraining are
fine-tuned once from each, with the same seed; the others three times from one. The base passes over its text 1.2 times,
where a static mask is hardly seen twice: that factor has arms of their own, on a sixth of the text. The base's rate is
the best of three that were tried (2e-3, 1e-3, 5e-4); that of four times the batch is twice it (AdamW), and a guess
(LAMB).
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor, as_completed
from copy import deepcopy
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml
from factors_data import few_documents, read_entities, read_pairs, read_reviews, read_text, short_rows

from fenghuo.rundir import write_atomic

HERE = Path(__file__).parent
SCRATCH = "scratch"
VOCABULARY, STEPS, BATCH, LARGE = 6_000, 1_600, 1_024, 4
POSITIONS = ("base", "absolute")  # also read at 512, and asked about the reviews that fit 128

MODEL = {
    "preset": "nezha-4l-312",
    "values": {
        "layers": 4,
        "layer_groups": 4,
        "width": 192,
        "embed_width": 192,
        "inner_width": 768,
        "heads": 4,
        "dropout": 0.0,
        "attention_dropout": 0.0,
        "initializer_range": 0.05,
    },
}
MLM = {"name": "mlm", "rate": 0.15, "unit": "word"}
BASE: dict[str, Any] = {
    "model": MODEL,
    "max_length": 128,
    "objectives": [MLM],
    "batch": {"pieces": BATCH},
    "optimizer": {"learning_rate": 5e-4},
    "pseudo_perplexity": "last",
    "train": {"steps": STEPS, "save_every": 400, "keep": 1, "log_every": 50},
}
LARGE_BATCH = {"batch": {"pieces": BATCH * LARGE}, "train": {"steps": STEPS // LARGE, "save_every": 100}}


@dataclass(frozen=True)
class Arm:
    """What a pretraining has that the base has not, and the seeds it is run with."""

    changes: Mapping[str, Any] = field(default_factory=dict)
    seeds: tuple[int, ...] = (1,)
    corpus: str = "corpus"

    def tuned(self, seed: int) -> tuple[int, ...]:
        """Seeds of the fine-tunings that begin at this seed's weights: with arms of one seed, base-1 is compared."""
        is_compared = len(self.seeds) == 1 or (self is ARMS["base"] and seed == 1)
        return (1, 2, 3) if is_compared else (seed,)


ARMS = {
    "base": Arm(seeds=(1, 2, 3)),
    "absolute": Arm({"model": {"preset": "bert-4l-312"}}, seeds=(1, 2, 3)),
    "pieces": Arm({"objectives": [{**MLM, "unit": "piece"}]}, seeds=(1, 2, 3)),
    "spans": Arm({"objectives": [{**MLM, "unit": "span"}]}, seeds=(1, 2, 3)),
    "nsp": Arm({"objectives": [MLM, {"name": "nsp"}]}),
    "sop": Arm({"objectives": [MLM, {"name": "sop"}]}),
    "few": Arm(corpus="corpus-few"),
    "few-static": Arm({"mask_copies": 1}, corpus="corpus-few"),
    "lookahead": Arm({"optimizer": {"lookahead": {}}}),
    "large-adamw": Arm({**LARGE_BATCH, "optimizer": {"learning_rate": 1e-3}}),
    "large-lamb": Arm({**LARGE_BATCH, "optimizer": {"name": "lamb", "learning_rate": 5e-3}}),
}
TASKS: dict[str, tuple[Callable[[Path], tuple[str, str]], dict[str, Any]]] = {
    "reviews": (
        read_reviews,
        {
            "task": {"kind": "classify", "max_length": 512},
            "batch": {"rows": 16},
            "optimizer": {"learning_rate": 3e-4},
        },
    ),
    "questions": (
        read_pairs,
        {
            "task": {"kind": "pair", "max_length": 128},
            "batch": {"rows": 32},
            "optimizer": {"learning_rate": 5e-4},
        },
    ),
    "entities": (
        read_entities,
        {
            "task": {"kind": "tag", "max_length": 128},
            "batch": {"rows": 16},
            "optimizer": {"learning_rate": 1e-3},
        },
    ),
}
EPOCHS = 2


class Place:
    """The experiment's folder."""

    def __init__(self, data: Path, out: Path) -> None:
        self.data, self.out = data.resolve(), out.resolve()
        self._lock = threading.Lock()
        self._stopped = threading.Event()

    def prepare(self) -> None:
        """Text, rows, vocabulary and corpora."""
        (self.out / "rows").mkdir(parents=True, exist_ok=True)
        if not (text := self.out / "text.txt").exists():
            write_atomic(text, read_text(self.data))
        if not (few := self.out / "text-few.txt").exists():
            write_atomic(few, few_documents(text.read_text(encoding="utf-8")))
        for task, (read, _) in TASKS.items():
            if not self.rows(task, "test").exists():
                for split, rows in zip(("train", "test"), read(self.data), strict=True):
                    write_atomic(self.rows(task, split), rows)
        if not (short := self.rows("reviews", "short")).exists():
            write_atomic(short, short_rows(self.rows("reviews", "test").read_text(encoding="utf-8")))
        vocabulary = self.out / "vocabulary"
        if not vocabulary.exists():
            self.process(
                "vocabulary",
                [
                    "-m",
                    "fenghuo",
                    "vocab",
                    "train",
                    "--input",
                    text,
                    "--size",
                    VOCABULARY,
                    "--out",
                    vocabulary,
                ],
            )
        for name, source in {"corpus": text, "corpus-few": few}.items():
            self.fenghuo(
                "corpus",
                {
                    "input": [{"path": str(source), "format": "paragraphs"}],
                    "tokenizer": str(vocabulary),
                    "heldout": 0.04,  # drawn by each document's text: of the few, none is held out of the rest
                    "decontaminate": [str(self.rows(task, "test")) for task in TASKS],
                },
                name,
            )

    def rows(self, task: str, split: str) -> Path:
        """A file of labelled rows."""
        return self.out / "rows" / f"{task}-{split}.{'txt' if task == 'entities' else 'tsv'}"

    def pretrain(self, arm: str, seed: int) -> None:
        """One pretraining, and its held-out figures."""
        name = f"{arm}-{seed}"
        self.fenghuo(
            "pretrain",
            merged(
                {**BASE, "corpus": str(self.out / ARMS[arm].corpus)},
                ARMS[arm].changes,
                {"train": {"seed": seed}},
            ),
            name,
        )
        if not (target := self.out / name / "lengths.json").exists():
            lengths = (128, 512) if arm in POSITIONS else (128,)
            told = self.process(name, [HERE / "heldout.py", self.out / name, self.out / "corpus", *lengths])
            write_atomic(target, told)

    def finetune(self, arm: str, seed: int, task: str, tuned: int) -> None:
        """One fine-tuning; of the arm `scratch` from weights as they are drawn."""
        model: dict[str, Any] = {"folder": str(self.out / f"{arm}-{seed}")}
        if arm == SCRATCH:
            model = {**MODEL, "tokenizer": str(self.out / "vocabulary")}
        data = {split: str(self.rows(task, split)) for split in ("train", "test")}
        if task == "entities":
            data["format"] = "conll"
        train = {"epochs": EPOCHS, "seed": tuned, "log_every": 50, "save_every": 10_000}
        recipe = {**TASKS[task][1], "model": model, "data": data, "train": train}
        name = f"{arm}-{seed}-{task}-{tuned}"
        self.fenghuo("finetune", recipe, name)
        target = self.out / name / "short.json"
        if task == "reviews" and arm in POSITIONS and not target.exists():
            rows = self.rows(task, "short")
            asked = ["-m", "fenghuo", "evaluate", self.out / name, "--data", rows, "--json", "--quiet"]
            write_atomic(target, self.process(name, asked))

    def fenghuo(self, verb: str, recipe: Mapping[str, Any], name: str) -> None:
        """A run of fenghuo, unless it is finished; what was cut off goes on."""
        path = self.out / f"{name}.yaml"
        told = yaml.safe_dump(dict(recipe), allow_unicode=True, sort_keys=False)
        if path.exists() and path.read_text(encoding="utf-8") != told:
            raise RuntimeError(f"{path}: made for another recipe than this program's; take another --out")
        if (self.out / name / "result.json").exists():
            return
        write_atomic(path, told)
        self.process(name, ["-m", "fenghuo", verb, path, "--out", self.out / name, "--quiet"])

    def process(self, name: str, arguments: list[Any]) -> str:
        """What a process of one thread printed; its processor time goes to costs.jsonl."""
        if self._stopped.is_set():
            raise InterruptedError("stopped")
        began_s = time.monotonic()
        process = subprocess.Popen(
            [sys.executable, *map(str, arguments)],
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, "OMP_NUM_THREADS": "1"},
        )
        assert process.stdout is not None
        told = process.stdout.read()
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        cost = {
            "run": name,
            "wall_s": round(time.monotonic() - began_s, 1),
            "cpu_s": round(usage.ru_utime + usage.ru_stime, 1),
            "exit": process.returncode,
        }
        with self._lock, (self.out / "costs.jsonl").open("a", encoding="utf-8") as file:
            file.write(json.dumps(cost) + "\n")
        print(json.dumps(cost), file=sys.stderr, flush=True)
        if process.returncode:
            raise RuntimeError(f"{name}: {arguments} ended with {process.returncode}")
        return told

    def stop(self) -> None:
        """Begin no further process."""
        self._stopped.set()


def merged(*parts: Mapping[str, Any]) -> dict[str, Any]:
    """Mappings laid over each other, key by key."""
    whole: dict[str, Any] = {}
    for part in parts:
        for key, value in part.items():
            old = whole.get(key)
            both = isinstance(old, Mapping) and isinstance(value, Mapping)
            whole[key] = merged(old, value) if both else deepcopy(value)
    return whole


def chains(place: Place) -> list[list[Callable[[], None]]]:
    """What can run side by side, each a list of steps in turn; the first seed of every arm comes first."""
    made = [
        (seed, [lambda arm=arm, seed=seed: place.pretrain(arm, seed), *_finetunings(place, arm, seed)])
        for arm in ARMS
        for seed in ARMS[arm].seeds
    ]
    first = [steps for _, steps in sorted(made, key=lambda one: one[0])]
    return [*first, _finetunings(place, SCRATCH, 0)]


def _finetunings(place: Place, arm: str, seed: int) -> list[Callable[[], None]]:
    tuned = (1, 2, 3) if arm == SCRATCH else ARMS[arm].tuned(seed)
    return [
        lambda task=task, one=one: place.finetune(arm, seed, task, one) for task in TASKS for one in tuned
    ]


def run(place: Place, jobs: int) -> None:
    """All that is left, so many processes at a time; the first error ends it when the others' processes have ended."""
    with ThreadPoolExecutor(jobs) as pool:
        try:
            for done in as_completed([pool.submit(_in_turn, place, chain) for chain in chains(place)]):
                done.result()
        except BaseException:  # of Ctrl-C the processes have heard too, and each saves its state
            place.stop()
            raise


def _in_turn(place: Place, steps: list[Callable[[], None]]) -> None:
    try:
        for step in steps:
            step()
    except BaseException:
        place.stop()  # before this thread takes another chain, which will not get beyond its first step
        raise


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("data", type=Path, help="folder of the text and the rows")
    parser.add_argument("--out", type=Path, required=True, help="folder of the runs")
    parser.add_argument("--jobs", type=int, default=2, help="processes at a time, of one thread each")
    given = parser.parse_args()
    place = Place(given.data, given.out)
    place.prepare()
    run(place, given.jobs)


if __name__ == "__main__":
    main()
