"""A step of pretraining: pieces a second, beside transformers 4.57.6 with fused AdamW.

    .venv/bin/python benchmarks/pretrain.py --quick --case 'nezha-4l312/L128'

Cases: {nezha|bert}-{base|4l312}/L{128|512}/{blocks|documents}. A step goes from a batch that is ready to weights that
have moved; making the batch is on neither side. Both sides get the same pieces with the same whole words hidden,
dropout 0.1, fp32, each in a process of its own. Blocks are all of L pieces. Documents are reviews and newspaper
paragraphs as they come, cut at L; the peer pads them to the longest of a batch and to a multiple of 8. Pieces that are
counted are real ones. `padding` is the share of the peer's slots that hold none.

`share_of_products` and `peer_share_of_products`: the work that has to be done, over the time, over the rate of matrix
products of the model's sizes (`products_gflops`: some before every step; all their work over all their time, as a step
is timed). `share_of_peak` and `peer_share_of_peak` go by the fastest of those products instead (`peak_gflops`), which a
shared machine reaches for some milliseconds only. What that work is, `fenghuo.net.flops` says.

`ours_peak_mib` and `peer_peak_mib`: resident memory at its highest over all steps, less what each process held before
the model was built: weights, moments, tables and activations.

Where the peer ends (it needs more memory than there is), its figures are null, `peer_ended` says how, and the next case
has a new one.
"""

from __future__ import annotations

import itertools
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from fenghuo.models.build import encoder_config
from fenghuo.net.config import EncoderConfig
from fenghuo.net.flops import MatrixPeak, training_flops
from measure import THREADS, Peer, Unit, arguments, side_by_side, wanted
from measure.text import VOCABULARY, batches

PRESETS = {"base": "base", "4l312": "4l-312"}
PIECES = {
    "base": 2048,
    "4l312": 8192,
}  # of a batch of blocks, and half as many of documents: the peer pads to thrice
QUICK_PIECES = {"base": 1024, "4l312": 4096}  # the optimizer's share is twice as large
CASES = [
    f"{family}-{size}/L{length}/{kind}"
    for family, size, length, kind in itertools.product(
        ("nezha", "bert"), PRESETS, (128, 512), ("blocks", "documents")
    )
]


def work(config: EncoderConfig, batch: dict[str, Any]) -> float:
    """Floating point operations that a step on this batch has to do."""
    return training_flops(
        config,
        pieces=len(batch["pieces"]),
        squares=float((batch["lengths"] ** 2).sum()),
        asked=len(batch["asked_pieces"]),
    )


def run(case: str, ours: Peer, peer: Peer, *, runs: int, quick: bool) -> None:
    """Time one case and print its line."""
    model, length, kind = case.split("/")
    family, size = model.split("-")
    preset = f"{family}-{PRESETS[size]}"
    config = encoder_config(preset, vocab=VOCABULARY)[1]
    pieces = (QUICK_PIECES if quick else PIECES)[size] // (2 if kind == "documents" else 1)
    made = batches(kind, int(length[1:]), pieces=pieces, count=runs + 1)
    sent = [{name: values.tolist() for name, values in batch.items()} for batch in made]
    shape = {name: getattr(config, name) for name in ("layers", "heads", "width", "inner_width")}
    versions = {"torch": ours.ask(do="prepare", preset=preset, vocabulary=VOCABULARY, batches=sent)}

    def prepare_peer() -> None:
        """Before its first run, so that its row says so if it ends here."""
        if "transformers" not in versions:
            versions["transformers"] = peer.ask(
                do="prepare", family=family, shape=shape, vocabulary=VOCABULARY, batches=sent
            )

    peak = MatrixPeak(config, pieces)
    mean_work = sum(work(config, batch) for batch in made) / len(made)
    mean_pieces = sum(len(batch["pieces"]) for batch in made) / len(made)
    slots = sum(len(batch["lengths"]) * -(-int(batch["lengths"].max()) // 8) * 8 for batch in made)

    def share(step_s: float | None, per_s: float) -> float | None:
        return None if step_s is None else round(mean_work / step_s / per_s, 3)

    def more(mine_s: float, theirs_s: float | None) -> dict[str, Any]:
        return {
            "share_of_products": share(mine_s, peak.mean_per_s),
            "peer_share_of_products": share(theirs_s, peak.mean_per_s),
            "products_gflops": round(peak.mean_per_s / 1e9, 1),
            "share_of_peak": share(mine_s, peak.flops_per_s),
            "peer_share_of_peak": share(theirs_s, peak.flops_per_s),
            "peak_gflops": round(peak.flops_per_s / 1e9, 1),
            "ours_peak_mib": ours.ask(do="resident"),
            "peer_peak_mib": None if theirs_s is None else peer.ask(do="resident"),
            "pieces": round(mean_pieces),
            "padding": round(1 - len(made) * mean_pieces / slots, 2),
        }

    side_by_side(
        "pretrain",
        case,
        _by_work(ours, [work(config, batch) / mean_work for batch in made], before=peak.measure),
        _by_work(peer, [work(config, batch) / mean_work for batch in made], before=prepare_peer),
        peer_name="transformers",
        runs=runs,
        versions=versions,
        unit=Unit("pieces/s", lambda step_s: mean_pieces / step_s, 1),
        warm_ups=1,
        more=more,
    )


def _by_work(side: Peer, shares: list[float], before: Callable[[], None]) -> Callable[[], float]:
    """Seconds of a step, as if each batch were the mean one: batches of documents differ a little."""
    share = itertools.cycle(shares)

    def timed() -> float:
        before()
        return side.run() / next(share)

    return timed


def main() -> None:
    given = arguments(__doc__, quick_runs=3)
    torch.set_num_threads(THREADS)
    torch.manual_seed(0)
    ours, peer = Peer("pretrain_ours.py", python=Path(sys.executable)), Peer("pretrain_peer.py")
    for case in wanted(CASES, given.case):
        run(case, ours, peer, runs=given.runs, quick=given.quick)
    ours.close()
    peer.close()


if __name__ == "__main__":
    main()
