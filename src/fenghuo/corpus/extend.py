"""Documents of finished corpora, taken over into a new one as they are: nothing is read or cut again."""

from __future__ import annotations

import json
import os
import shutil
from dataclasses import asdict, dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fenghuo.corpus.duplicates import save_array
from fenghuo.corpus.format import ShardLine, check_size, read_manifest, signatures_of
from fenghuo.corpus.shards import corpus_file
from fenghuo.errors import DataError
from fenghuo.rundir import write_atomic

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence


@dataclass(frozen=True, slots=True)
class Taken:
    """A shard of a finished corpus."""

    path: Path
    line: ShardLine  # of that corpus's manifest


def find_shards(corpora: Sequence[Path], fingerprints: Mapping[str, str]) -> list[Taken]:
    """The shards of all corpora, in order.

    Raises:
        DataError: not the run folder of a finished corpus, a folder named twice, another tokenizer or segmenter, or
            shards of before they had signatures.
        DamagedError: a shard is missing or has another size.
    """
    found: list[Taken] = []
    seen: set[Path] = set()
    for corpus in corpora:
        folder = corpus / "shards"
        theirs, lines = read_manifest(folder)
        for name, ours in fingerprints.items():
            if theirs[name] != ours:
                raise DataError(
                    f"{corpus}: made with the {name} {theirs[name]}, and this recipe's is {ours}; "
                    "only corpora of the same one can be put together"
                )
        if corpus.resolve() in seen:
            raise DataError(f"{corpus}: named twice in extend")
        seen.add(corpus.resolve())
        found += (Taken(folder / line.file, line) for line in lines)
    for one in found:
        check_size(one.path, one.line)
        signatures_of(one.path)
    return found


def save_taken(path: Path, shards: Sequence[Taken]) -> None:
    """Note the shards where the tasks find them."""
    notes = [{"path": str(one.path.absolute()), "line": asdict(one.line)} for one in shards]
    write_atomic(path, json.dumps(notes))


@lru_cache(maxsize=1)
def taken(path: Path) -> list[Taken]:
    """What `save_taken` noted."""
    notes = json.loads(path.read_bytes())
    return [Taken(Path(one["path"]), ShardLine(**one["line"])) for one in notes]


def take_whole(one: Taken, target: Path) -> ShardLine:
    """The shard under another name: a second link to the same bytes, or a copy on another disk."""
    target.unlink(missing_ok=True)
    try:
        os.link(one.path, target)
    except OSError:  # another disk, or one without links
        beside = target.with_name(f".{target.name}.writing-copy")
        shutil.copyfile(one.path, beside)
        os.replace(beside, target)
    return replace(one.line, file=target.name)


def save_signatures_of(one: Taken, path: Path) -> None:
    """Its documents' signatures, for `duplicates.mark_repeats`."""
    save_array(path, signatures_of(one.path))


def inputs_of(corpora: Sequence[Path]) -> list[tuple[str, Path]]:
    """For a run's record: the one file of each corpus that holds the fingerprints of all its shards."""
    return [("corpus", corpus_file(corpus)) for corpus in corpora]


def documents_of(shards: Sequence[Taken]) -> dict[str, Any]:
    """For a run's result: what they offer."""
    return {name: sum(getattr(one.line, name) for one in shards) for name in ("documents", "pieces")}
