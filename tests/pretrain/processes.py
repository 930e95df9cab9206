"""Command lines of `fenghuo pretrain`, started at once in as many processes as torchrun would start."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from torch.distributed import TCPStore

from fenghuo.config import build_recipe, dump_recipe
from fenghuo.pretrain.recipe import PretrainRecipe

ROOT = Path(__file__).parents[2]
TINY = {"layers": 1, "layer_groups": 1, "width": 32, "embed_width": 32, "inner_width": 64, "heads": 2}
WEIGHTS = "model/model.safetensors"


class Runs:
    """Starts `fenghuo pretrain` in one or two processes of its own, and waits for them.

    Args:
        home: where runs and what they say are put.
        train: of the recipe.
    """

    def __init__(self, corpus: Path, home: Path, **train: Any) -> None:
        self.home, self.recipe = home, home / "recipe.yaml"
        values = {
            "corpus": str(corpus),
            "model": {"preset": "nezha-4l-312", "values": TINY},
            "max_length": 32,
            "batch": {"pieces": 128},
            "optimizer": {"learning_rate": 3e-3},
            "train": {"seed": 3, "log_every": 5, "evaluate_every": 1000, **train},
        }
        self._stores: list[TCPStore] = []
        self.recipe.write_text(dump_recipe(build_recipe(PretrainRecipe, values)), encoding="utf-8")
        self._zygote = subprocess.Popen(
            [sys.executable, "-m", "tests.pretrain.zygote"],
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, "OMP_NUM_THREADS": "1"},
        )

    def start(self, out: Path, world: int, *flags: str, **more: Any) -> list[int]:
        """The pids of a run's ranks."""
        # What torchrun holds for its ranks: it outlives them.
        store = TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False)
        self._stores.append(store)
        place = {
            "MASTER_ADDR": "127.0.0.1",
            "MASTER_PORT": str(store.port),
            "TORCHELASTIC_USE_AGENT_STORE": "True",
        }
        pids = []
        for rank in range(world):
            names = {"RANK": rank, "WORLD_SIZE": world, "LOCAL_RANK": rank, "LOCAL_WORLD_SIZE": world}
            env = {name: str(value) for name, value in names.items()} if world > 1 else {}
            pids.append(
                self._ask(
                    argv=["pretrain", str(self.recipe), "--out", str(out), *flags],
                    env=env | place,
                    told=str(self.told(out, rank)),
                    **more,
                )
            )
        return pids

    def wait(self, pids: list[int]) -> list[int]:
        """Their exit codes."""
        return [self._ask(wait=pid) for pid in pids]

    def told(self, out: Path, rank: int) -> Path:
        """What a rank put on stderr, over all restarts."""
        return self.home / f"{out.name}-{rank}.txt"

    def close(self) -> None:
        assert self._zygote.stdin is not None
        assert self._zygote.stdout is not None
        self._zygote.stdin.close()
        self._zygote.wait()
        self._zygote.stdout.close()

    def _ask(self, **job: Any) -> int:
        assert self._zygote.stdin is not None
        assert self._zygote.stdout is not None
        print(json.dumps(job), file=self._zygote.stdin, flush=True)
        return int(self._zygote.stdout.readline())
