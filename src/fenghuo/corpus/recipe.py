"""What decides a corpus."""

from __future__ import annotations

from pathlib import Path
from typing import Any, ClassVar, Literal, Self

from pydantic import Field, field_validator, model_validator

from fenghuo.config import Recipe


class InputRecipe(Recipe):
    """Some text. One word stands for its path."""

    path: str
    """File, folder, glob pattern or fsspec URL; txt, jsonl or parquet, also .gz and .zst."""
    format: Literal["lines", "paragraphs"] = "lines"
    """Of txt files: lines = a document a line; paragraphs = a sentence a line, blank lines between documents."""
    text_key: str = "text"
    """Key (jsonl) or column (parquet) that holds a document."""

    @model_validator(mode="before")
    @classmethod
    def _one_word(cls, given: Any) -> Any:
        return {"path": str(given)} if isinstance(given, str | Path) else given


class CleanRecipe(Recipe):
    """What is mended in a document, and which documents are left out."""

    nfkc: bool = False
    """Fold compatibility characters (ａ１ → a1); Chinese full-width punctuation stays as it is."""
    controls: bool = True
    """Remove control and zero-width characters."""
    blanks: bool = True
    """One space for each run of blanks, no blank lines."""
    boilerplate: bool = True
    """Remove lines that are only addresses (URLs, e-mail) or only symbols."""
    min_characters: int = Field(default=5, ge=0)
    """Leave out documents with fewer characters, blanks not counted."""
    repetition: float = Field(default=0.12, ge=0, lt=1)
    """Leave out documents that zlib packs below this share of their bytes; machine logs may want 0."""
    simplified: bool = False
    """Write traditional Chinese in simplified characters; Japanese documents stay as they are."""
    markup: bool = False
    """Remove inline Markdown and HTML and keep the words: `**`, backticks, links, footnote numbers, tags."""
    languages: list[str] | None = Field(default=None, min_length=1)
    """Leave out documents in other languages than these (ISO codes, such as zh, en); null = keep all."""
    letters: float = Field(default=0, ge=0, le=1)
    """Leave out documents in which fewer of the characters, blanks not counted, are letters; 0 = keep all."""
    chinese: float = Field(default=0, ge=0, le=1)
    """Leave out documents in which fewer of the characters, blanks not counted, are Chinese; 0 = keep all."""
    repeated_lines: float = Field(default=1, gt=0, le=1)
    """Leave out documents in which lines that stood there before hold more of the characters; 1 = keep all."""


class NearRecipe(Recipe):
    """Near duplicates, by MinHash of 5-grams of characters (of words, where blanks part them)."""

    similarity: float = Field(default=0.8, gt=0, lt=1)
    """Jaccard similarity of two documents' 5-grams that is found with probability one half."""
    permutations: int = Field(default=128, ge=16, le=1024)
    """Hash functions at most; more make a sharper difference between like and unlike, and cost time."""


class DedupRecipe(Recipe):
    """Which documents count as the same."""

    exact: bool = True
    """Keep the first of documents that differ in case, width, blanks and punctuation at most."""
    near: NearRecipe | None = None
    """Keep the first of documents that are nearly the same; null = keep all of them."""


class EvaluationRecipe(Recipe):
    """A file of evaluation rows. One word stands for its path."""

    path: str
    """File, glob pattern or fsspec URL; text, tsv, csv, JSON, JSON lines or tagged characters, also .gz and .zst."""
    format: Literal["auto", "table", "csv", "json", "tagged"] = "auto"
    """table = a row a line, tabs between texts; tagged = a token and its tag a line; auto = by name and look."""

    @model_validator(mode="before")
    @classmethod
    def _one_word(cls, given: Any) -> Any:
        return {"path": str(given)} if isinstance(given, str | Path) else given


class DecontaminateRecipe(Recipe):
    """Evaluation rows that no document may hold a piece of. A path, or a list of them, stands for `against`."""

    against: list[EvaluationRecipe] = Field(min_length=1)
    """The evaluation files; a path, or a list of paths or of parts with path, format."""
    length: int = Field(default=20, ge=5)
    """Chinese characters, or words where blanks part them, that a document shares in a row to be left out."""
    shortest: int = Field(default=10, ge=5)
    """An evaluation text shorter than `length`, but not than this, is looked for as a whole."""

    @model_validator(mode="before")
    @classmethod
    def _files_alone(cls, given: Any) -> Any:
        return {"against": given} if isinstance(given, str | Path | list) else given

    @field_validator("against", mode="before")
    @classmethod
    def _one_file(cls, given: Any) -> Any:
        return [given] if isinstance(given, str | Path | dict) else given


class ExecutorRecipe(Recipe):
    """Who does the work; the result does not depend on it. One word stands for its kind."""

    # Not `kind`: jobs of the call before may still wait on the other cluster.
    changeable: ClassVar = ("workers", "memory_gb", "time", "partition", "sbatch")

    kind: Literal["local", "slurm", "ray"] = "local"
    """local = processes of this machine; slurm, ray = a cluster whose machines all see the files and the run folder."""
    workers: int = Field(default=0, ge=0)
    """Tasks at a time; 0 = one for each processor (local), as many as the cluster has room for (slurm, ray)."""
    memory_gb: int = Field(default=2, ge=1)
    """Memory that each task asks the cluster for, in GB (slurm, ray)."""
    time: str = "24:00:00"
    """Longest time of a job (slurm)."""
    partition: str | None = None
    """Partition that jobs go to (slurm); null = the cluster's default."""
    sbatch: dict[str, str] = Field(default_factory=dict)
    """More options of sbatch, such as account: name (slurm)."""

    @model_validator(mode="before")
    @classmethod
    def _one_word(cls, given: Any) -> Any:
        return {"kind": given} if isinstance(given, str) else given


class ShardsRecipe(Recipe):
    """How the result lies on disk."""

    input_mb: float | None = Field(default=None, gt=0)
    """Input that goes into one shard, in MB; null = a sixteenth of it all, but at least 1 and at most 64."""


class CorpusRecipe(Recipe):
    """Raw text → shards of pieces with word and sentence edges."""

    input: list[InputRecipe] = Field(default_factory=list)
    """Where the text is; a path, or a list of paths or of parts with path, format, text_key."""
    extend: list[Path] = Field(default_factory=list)
    """Run folders of finished corpora whose documents come first; several of them without an input are merged."""
    tokenizer: Path
    """Tokenizer folder (see `fenghuo vocab train`), model folder, or a vocab.txt."""
    segmenter: Literal["rjieba", "pkuseg"] = "rjieba"
    """Who says where a Chinese word ends; pkuseg needs a model on disk and a hundred times the time."""
    clean: CleanRecipe = CleanRecipe()
    """Rules for characters, lines and documents."""
    dedup: DedupRecipe = DedupRecipe()
    """Removal of repeated documents."""
    decontaminate: DecontaminateRecipe | None = None
    """Leave out documents that hold a piece of an evaluation file; null = look for none."""
    heldout: float = Field(default=0.01, ge=0, lt=1)
    """Share of documents kept out of training; chosen by a hash of the text, so never by place or chance."""
    executor: ExecutorRecipe = ExecutorRecipe()
    """Processes."""
    shards: ShardsRecipe = ShardsRecipe()
    """Size of a shard."""

    @field_validator("input", "extend", mode="before")
    @classmethod
    def _one_input(cls, given: Any) -> Any:
        return [given] if isinstance(given, str | Path | dict) else given

    @model_validator(mode="after")
    def _something(self) -> Self:
        if not self.input and len(self.extend) < 2:
            raise ValueError("needs an input, or two corpora or more to merge (extend)")
        return self
