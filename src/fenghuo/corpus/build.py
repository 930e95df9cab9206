"""Raw text → a corpus in a run folder."""

from __future__ import annotations

import json
import shutil
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fenghuo.cores import usable_cores
from fenghuo.corpus.clean import Cleaner, add_up
from fenghuo.corpus.contamination import read_index
from fenghuo.corpus.duplicates import mark_repeats
from fenghuo.corpus.evaluation import find_evaluation
from fenghuo.corpus.figures import all_lengths, as_lines, contamination, near_duplicates, summary
from fenghuo.corpus.files import cut_into_parts, find_files
from fenghuo.corpus.format import ShardLine, write_manifest
from fenghuo.corpus.near import mark_near_repeats
from fenghuo.corpus.places import Places
from fenghuo.corpus.plan import plan as plan
from fenghuo.errors import DataError, MissingExtraError, StoppedError
from fenghuo.progress import track
from fenghuo.rundir import RunDir, write_atomic
from fenghuo.rundir.atomic import disk_error
from fenghuo.text.tokenizer import Tokenizer
from fenghuo.text.words import load_segmenter

if TYPE_CHECKING:
    from collections.abc import Sequence

    from fenghuo.corpus.files import Range
    from fenghuo.corpus.recipe import CorpusRecipe, DedupRecipe

_MANY_UNKNOWN = 0.02  # share of pieces


def run(recipe: CorpusRecipe, run: RunDir) -> None:
    """Clean, deduplicate, cut into pieces and words, write shards; a run that was cut off goes on.

    Raises:
        DataError: missing, empty or binary input, or nothing left of it.
        DiskError: the disk is full.
        StoppedError: Ctrl-C or SIGTERM.
    """
    began_s = time.monotonic()
    tokenizer, segmenter = Tokenizer.load(recipe.tokenizer), load_segmenter(recipe.segmenter)
    Cleaner(recipe.clean)  # a package that is missing, or a language nobody knows, is told before the work
    files = find_files(recipe.input)
    against = find_evaluation(recipe.decontaminate.against) if recipe.decontaminate else []
    read = [*(file.path for file in files), *(path for path, _ in against)]
    run.environment(seed=None, inputs=[("data", Path(path)) for path in read])
    parts = cut_into_parts(files, recipe.shards.input_mb)
    fingerprints = {"tokenizer": tokenizer.fingerprint, "segmenter": segmenter.name}
    work = _Work(run.path, parts, fingerprints)
    size_mb = sum(part.size_bytes for group in parts for part in group) / 1e6
    run.log(f"{len(files)} files, about {size_mb:,.1f} MB of text, in {len(parts)} parts")
    try:
        _build(recipe, work)
    except KeyboardInterrupt as problem:
        raise StoppedError(
            f"{run.path}: stopped; the same command goes on with the parts that are left"
        ) from problem
    except OSError as problem:
        raise disk_error(run.path, problem) from problem

    reports = work.reports()
    result = _result(reports, fingerprints)
    if not result["documents"]:
        work.remove()  # there is nothing to go on with, and nothing to stand in the way of other input
        raise DataError(f"no document is left of {result['read']['documents']}: {_why(result)}")
    tokenizer.save(run.path / "tokenizer")
    places = Places(parts)
    write_atomic(run.path / "bad_lines.jsonl", _bad_lines(reports, places))
    if recipe.dedup.near:
        result["near_duplicates"] = near_duplicates(*work.clusters(), reports, places)
    if recipe.decontaminate:
        _, rows = read_index(recipe.decontaminate, simplified=recipe.clean.simplified)
        result["evaluation"], hit = contamination(recipe.decontaminate, rows, reports)
        write_atomic(run.path / "evaluation_rows.jsonl", as_lines(hit))
    lines = [ShardLine(**line) for report in reports for line in report["write shards"]["shards"]]
    write_manifest(work.shards, lines, fingerprints=fingerprints)
    unknown = result["unknown_pieces"] / result["pieces"]
    if unknown > _MANY_UNKNOWN:
        run.log(
            f"{unknown:.1%} of the pieces are unknown to {recipe.tokenizer}: another vocabulary would fit better"
        )
    spent_s = time.monotonic() - began_s
    counts = f"{result['documents']:,} documents, {result['pieces']:,} pieces in {len(lines)} shards"
    run.log(f"{counts}; left out: {_why(result)}")
    for line in summary(result):
        run.log(line)
    speed = round(result["read"]["characters"] / spent_s)
    run.finish({**result, "build_s": round(spent_s, 1), "characters_per_s": speed})
    shutil.rmtree(work.home, ignore_errors=True)


class _Work:
    """The run's working folder, which knows what is done; emptied where it belongs to other input."""

    def __init__(self, run: Path, parts: Sequence[tuple[Range, ...]], fingerprints: dict[str, str]) -> None:
        self.run, self.parts = run, parts
        self.home, self.shards = run / ".work", run / "shards"
        plan = json.dumps([repr(parts), fingerprints])
        note = self.home / "plan.json"
        if not note.is_file() or note.read_text(encoding="utf-8") != plan:
            self.remove()
            write_atomic(note, plan)
        for folder in (
            self.shards,
            *(self.home / name for name in ("signatures", "near", "repeats", "reports")),
        ):
            folder.mkdir(parents=True, exist_ok=True)

    def remove(self) -> None:
        """Take the work and the shards away."""
        for folder in (self.home, self.shards):
            shutil.rmtree(folder, ignore_errors=True)

    def files(self, name: str) -> list[Path]:
        return [self.home / name / f"{number:05d}.npy" for number in range(len(self.parts))]

    @property
    def shown(self) -> Path:
        """(part, document) of near duplicates that the report will show."""
        return self.home / "shown.json"

    def decide(self, dedup: DedupRecipe) -> None:
        """Say in a file of each part which of its documents repeat an earlier one of any part."""
        if dedup.exact:
            mark_repeats(self.files("signatures"), self.files("repeats"))
        if dedup.near:
            found = mark_near_repeats(self.files("near"), self.files("repeats"))
            write_atomic(self.home / "clusters.json", json.dumps(found.to_json()))
            write_atomic(self.shown, json.dumps(found.samples))

    def clusters(self) -> tuple[dict[str, Any], list[list[list[int]]]]:
        """What `decide` found of near duplicates, and which it will show."""
        return json.loads((self.home / "clusters.json").read_bytes()), json.loads(self.shown.read_bytes())

    def reports(self) -> list[dict[str, Any]]:
        """What the steps counted, part by part."""
        return [
            json.loads((self.home / "reports" / f"{n:05d}.json").read_bytes()) for n in range(len(self.parts))
        ]


def _build(recipe: CorpusRecipe, work: _Work) -> None:
    """Both passes over the input: sign and decide what repeats, then write."""
    # datatrove takes a second to import: not before it is needed.
    try:
        from fenghuo.corpus import rules, steps
        from fenghuo.corpus.executor import Executor, interrupted_by_sigterm, workers
    except ModuleNotFoundError as problem:
        raise MissingExtraError(str(problem.name), "train") from problem

    sizes = [sum(part.size_bytes for part in group) for group in work.parts]
    number = min(recipe.executor.workers or usable_cores(), len(work.parts))

    def go(name: str, pipeline: list[Any]) -> None:
        with track(f"corpus: {name}", sum(sizes), "bytes") as progress:
            executor = Executor(
                pipeline,
                tasks=len(sizes),
                home=work.home / name,
                pool=pool,
                done=lambda task: progress.advance(sizes[task]),
            )
            executor.run()

    read, clean = steps.Read(work.parts), steps.Clean(recipe.clean)
    write = steps.Shards(
        work.shards, tokenizer=recipe.tokenizer, segmenter=recipe.segmenter, heldout=recipe.heldout
    )
    counted: list[Any] = [read, clean]
    with interrupted_by_sigterm(), workers(number) as pool:
        sign: list[Any] = [steps.Sign(work.home / "signatures")] if recipe.dedup.exact else []
        if recipe.dedup.near:
            sign.append(rules.SignNear(work.home / "near", recipe.dedup.near))
        if sign:
            go("sign", [read, clean, *sign])
            work.decide(recipe.dedup)
            counted.append(steps.Keep(work.home / "repeats", work.shown))
        if recipe.decontaminate:
            counted.append(rules.Decontaminate(recipe.decontaminate, simplified=recipe.clean.simplified))
        counted.append(write)
        go("write", [*counted, steps.Report(work.home / "reports", counted)])


def _result(reports: Sequence[dict[str, Any]], fingerprints: dict[str, str]) -> dict[str, Any]:
    written = [report["write shards"] for report in reports]
    shards = [line for part in written for line in part["shards"]]
    removed = [step["removed"] for report in reports for step in report.values() if "removed" in step]
    return {
        "role": "corpus",
        **{name: sum(line[name] for line in shards) for name in ("documents", "heldout_documents", "pieces")},
        **{
            name: sum(part[name] for part in written)
            for name in ("characters", "words", "sentences", "unknown_pieces")
        },
        "read": {
            name: sum(report["read text"][name] for report in reports) for name in ("documents", "characters")
        },
        "lengths": all_lengths(reports),
        "bad_lines": sum(len(report["read text"]["bad_lines"]) for report in reports),
        "removed": add_up(removed),
        "mended": add_up([report["clean"]["mended"] for report in reports]),
        "shards": len(shards),
        "shard_bytes": sum(line["size_bytes"] for line in shards),
        **fingerprints,
    }


def _why(result: dict[str, Any]) -> str:
    reasons = [f"{count['count']:,} {rule.replace('_', ' ')}" for rule, count in result["removed"].items()]
    return ", ".join([*reasons, f"{result['bad_lines']:,} bad lines"])


def _bad_lines(reports: Sequence[dict[str, Any]], places: Places) -> str:
    """One JSON object a line that could not be read: file, line, reason, excerpt."""
    return as_lines(
        [
            {
                "file": bad["source"],
                "line": places.line(part, bad["range"], bad["line"]),
                "reason": bad["reason"],
                "excerpt": bad["excerpt"],
            }
            for part, report in enumerate(reports)
            for bad in report["read text"]["bad_lines"]
        ]
    )
