"""Raw text → a corpus in a run folder."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from fenghuo.corpus import extend
from fenghuo.corpus.bad_lines import put_together
from fenghuo.corpus.clean import add_up
from fenghuo.corpus.contamination import read_index
from fenghuo.corpus.duplicates import mark_repeats
from fenghuo.corpus.figures import all_lengths, as_lines, contamination, near_duplicates, summary
from fenghuo.corpus.files import amount
from fenghuo.corpus.format import ShardLine, write_manifest
from fenghuo.corpus.given import look_up
from fenghuo.corpus.near import mark_near_repeats
from fenghuo.corpus.places import Places
from fenghuo.corpus.plan import plan as plan
from fenghuo.corpus.work import Work
from fenghuo.errors import DataError, MissingExtraError, StoppedError
from fenghuo.progress import track
from fenghuo.rundir import RunDir, write_atomic
from fenghuo.rundir.atomic import disk_error

if TYPE_CHECKING:
    from collections.abc import Sequence

    from fenghuo.corpus.recipe import CorpusRecipe, DedupRecipe

_MANY_UNKNOWN = 0.02  # share of pieces


def run(recipe: CorpusRecipe, run: RunDir) -> None:
    """Clean, deduplicate, cut into pieces and words, write shards; a run that was cut off goes on.

    Raises:
        DataError: nothing left of it all. And what `look_up` raises.
        DiskError: the disk is full.
        StoppedError: Ctrl-C or SIGTERM.
    """
    began_s = time.monotonic()
    given = look_up(recipe)
    run.environment(seed=None, inputs=given.inputs)
    parts, taken, fingerprints = given.parts, given.taken, given.fingerprints
    work = Work(run.path, parts, taken, fingerprints)
    if work.is_other:
        run.log("what is done so far was done by another version: beginning anew")
    run.log(amount(given.files, parts))
    if taken:
        run.log(
            f"{extend.documents_of(taken)['documents']:,} documents of {len(recipe.extend)} corpora go before"
        )
    try:
        _build(recipe, work)
    except KeyboardInterrupt as problem:
        raise StoppedError(
            f"{run.path}: stopped; the same command goes on with the parts that are left"
        ) from problem
    except OSError as problem:
        raise disk_error(run.path, problem) from problem

    reports = work.reports()
    written = [report["take over"] for report in work.taken_reports()]
    written += [report["write shards"] for report in reports]
    lines = [ShardLine(**line) for report in written for line in report["shards"]]
    result = {**_result(reports, written), **fingerprints}
    if taken:
        result["extended"] = extend.documents_of(taken)
    if not result["documents"]:
        work.remove()  # there is nothing to go on with, and nothing to stand in the way of other input
        raise DataError(f"no document is left of {result['read']['documents']}: {_why(result)}")
    given.tokenizer.save(run.path / "tokenizer")
    places = Places(parts)
    put_together(run.path / "bad_lines.jsonl", work.bad_lines(), places)
    if recipe.dedup.near:
        result["near_duplicates"] = near_duplicates(*work.clusters(), reports, places)
    if recipe.decontaminate:
        _, rows = read_index(recipe.decontaminate, simplified=recipe.clean.simplified)
        result["evaluation"], hit = contamination(recipe.decontaminate, rows, reports)
        write_atomic(run.path / "evaluation_rows.jsonl", as_lines(hit))
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
    work.clear()


def _build(recipe: CorpusRecipe, work: Work) -> None:
    """The passes: read, clean and sign; decide what repeats; write. Without anything to decide, one."""
    # They take half a second to import: not before they are needed.
    try:
        from fenghuo.corpus import rules, steps
        from fenghuo.corpus.executor import interrupted_by_sigterm, open_executor
        from fenghuo.corpus.take import Take
    except ModuleNotFoundError as problem:
        raise MissingExtraError(str(problem.name), "train") from problem

    def go(name: str, sizes: list[int], pipeline: list[Any]) -> None:
        if not sizes:
            return
        reported = [*pipeline, steps.Report(work.home / f"{name}-reports", pipeline)]
        with track(f"corpus: {name}", sum(sizes), "bytes") as progress:
            execute(reported, len(sizes), work.home / name, lambda task: progress.advance(sizes[task]))

    read: list[Any] = [steps.Read(work.parts_file, work.folder("bad")), steps.Clean(recipe.clean)]
    decided: list[Any] = []
    write = steps.Shards(
        work.shards, tokenizer=recipe.tokenizer, segmenter=recipe.segmenter, heldout=recipe.heldout
    )
    dedup = recipe.dedup
    most = max(len(work.part_bytes), len(work.taken_bytes))
    with interrupted_by_sigterm(), open_executor(recipe.executor, most) as execute:
        if dedup.exact or dedup.near:
            texts = work.folder("texts")
            sign: list[Any] = [steps.Sign(work.folder("signatures"))]
            if dedup.near:
                sign.append(rules.SignNear(work.folder("near"), dedup.near))
            go("sign", work.part_bytes, [*read, *sign, steps.Store(texts)])
            work.once("repeats", lambda: _decide(work, dedup))
            read, decided = [steps.Stored(texts)], [steps.Keep(work.folder("repeats"), work.shown)]
        if recipe.decontaminate:
            decided.append(rules.Decontaminate(recipe.decontaminate, simplified=recipe.clean.simplified))
        repeats = work.folder("repeats") if dedup.exact else None
        take = Take(
            work.taken_file, repeats, work.shards, tokenizer=recipe.tokenizer, fingerprints=work.fingerprints
        )
        go("take", work.taken_bytes, [take])
        go("write", work.part_bytes, [*read, *decided, write])


def _decide(work: Work, dedup: DedupRecipe) -> None:
    """Say of each document, of finished corpora first, whether it repeats an earlier one. Near ones are told among the
    input's alone: a finished corpus keeps no keys of them."""
    work.forget("repeats")  # near ones that were marked before a kill would be taken for exact ones
    if dedup.exact:
        work.sign_taken()
        mark_repeats(work.files("signatures"), work.files("repeats"))
    if dedup.near:
        work.keep_clusters(mark_near_repeats(work.part_files("near"), work.part_files("repeats")))


def _result(reports: Sequence[dict[str, Any]], written: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """The figures of all tasks: of `reports`, those of the input's parts; of `written`, those that wrote shards."""
    shards = [line for part in written for line in part["shards"]]
    steps = [
        *written,
        *(step for report in reports for name, step in report.items() if name != "write shards"),
    ]
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
        "lengths": all_lengths(written),
        "bad_lines": sum(report["read text"]["bad_lines"] for report in reports),
        "removed": add_up([step["removed"] for step in steps if "removed" in step]),
        "mended": add_up([report["clean"]["mended"] for report in reports]),
        "shards": len(shards),
        "shard_bytes": sum(line["size_bytes"] for line in shards),
    }


def _why(result: dict[str, Any]) -> str:
    reasons = [f"{count['count']:,} {rule.replace('_', ' ')}" for rule, count in result["removed"].items()]
    return ", ".join([*reasons, f"{result['bad_lines']:,} bad lines"])
