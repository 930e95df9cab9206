"""How a long job says where it stands, so that `--quiet` and `--log-format` mean the same everywhere.

Everything goes to stderr; stdout belongs to data. Under torchrun only rank 0 speaks.
It stands on floor 0 because stages of every floor report (docs/decisions/0001-progress-on-floor-zero.md).
"""

from __future__ import annotations

import json
import os
import sys
import time
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from fenghuo.ranks import is_first

if TYPE_CHECKING:
    from collections.abc import Iterator

    from rich.progress import Progress as RichProgress

LINE_EVERY_S = 10.0  # off a terminal; a log of a night's run stays readable


@dataclass
class _Settings:
    quiet: bool = False
    log_format: Literal["text", "json"] = "text"
    bars: RichProgress | None = None  # shared by nested `track`s: a terminal has one bottom
    open_bars: int = 0


_settings = _Settings()


def configure(*, quiet: bool = False, log_format: Literal["text", "json"] = "text") -> None:
    """Set, for the whole process, whether anything is said and in which form.

    Args:
        quiet: say nothing; errors still come, since they are raised, not said.
        log_format: `json` makes every line one JSON object with `time` (Unix seconds) and `message`.
    """
    _settings.quiet = quiet
    _settings.log_format = log_format


def say(message: str) -> None:
    """Put one line on stderr."""
    if not _silent():
        _put(message, {})


def complain(message: str) -> None:
    """Put one line of an error on stderr, whatever `quiet` says."""
    _put(message, {"level": "error"})


def _put(message: str, values: dict[str, Any]) -> None:
    message = message.encode(errors="backslashreplace").decode()  # lone surrogates come in file names
    # Nobody may be reading stderr any more; a comment on the work must not end the work.
    with suppress(OSError, ValueError):
        if _settings.log_format == "json":
            line = {"time": round(time.time(), 3), "message": message, **values}
            print(json.dumps(line, ensure_ascii=False, default=str), file=sys.stderr, flush=True)
        elif _settings.bars is not None:
            _settings.bars.console.print(message, markup=False, highlight=False)
        else:
            print(message, file=sys.stderr, flush=True)


class Progress:
    """Where one job stands. Made by `track`.

    Args:
        label: what is being done.
        total: how many units there are, or None where nobody knows.
        unit: name of what is counted, such as `pieces`.
    """

    def __init__(self, label: str, total: int | None, unit: str = "") -> None:
        self.label = label
        self.total = total
        self.unit = unit
        self.done = 0
        self._skipped = 0
        self._figures: dict[str, Any] = {}
        self._left_s: float | None = None
        self._said: int | None = None
        self._started_s = self._said_s = time.monotonic()
        self._bar = _open_bar(label, total) if _on_terminal() else None

    def advance(self, n: int = 1, *, left_s: float | None = None, **figures: Any) -> None:
        """Count `n` units more; `figures` (such as `loss=1.9`) are shown beside the count.

        Args:
            left_s: seconds to the end, where the caller knows them; else the pace so far and `total` tell.
        """
        self.done += n
        self._left_s = left_s
        self._figures.update(figures)
        self._show()

    def set(self, done: int) -> None:
        """Stand at `done` units, without counting them as work of this process: for a resumed run."""
        self._skipped += done - self.done
        self.done = done
        self._show()

    def close(self) -> None:
        """Take the bar away; a job that took long off a terminal says its last line."""
        if self._bar is not None:
            _close_bar(self._bar)
        elif time.monotonic() - self._started_s >= LINE_EVERY_S and self.done != self._said:
            self._line()

    def _show(self) -> None:
        if self._bar is not None and _settings.bars is not None:
            _settings.bars.update(self._bar, completed=self.done, figures=self._details())
        elif time.monotonic() - self._said_s >= LINE_EVERY_S:
            self._line()

    def _line(self) -> None:
        self._said, self._said_s = self.done, time.monotonic()
        count = f"{self.done}" if self.total is None else f"{self.done}/{self.total}"
        values = {"label": self.label, "done": self.done, "total": self.total, **self._figures}
        if not _silent():
            _put(f"{self.label}: {count} {self._details()}".rstrip(), values)

    def _details(self) -> str:
        spent_s = time.monotonic() - self._started_s
        per_s = (self.done - self._skipped) / spent_s if spent_s > 0 else 0.0
        parts = [f"{per_s:,.1f} {self.unit or 'it'}/s"]
        left_s = self._left_s
        if left_s is None and self.total is not None and per_s > 0:
            left_s = max(self.total - self.done, 0) / per_s
        if left_s is not None:
            parts.append(f"{_clock(left_s)} left")
        parts += [f"{k} {v:.4g}" if isinstance(v, float) else f"{k} {v}" for k, v in self._figures.items()]
        return ", ".join(parts)


@contextmanager
def track(label: str, total: int | None, unit: str = "") -> Iterator[Progress]:
    """Show a bar on a terminal, elsewhere a line at most every `LINE_EVERY_S` seconds.

    Args:
        label: what is being done.
        total: number of units, or None where nobody knows.
        unit: name of what is counted, such as `pieces`.
    """
    progress = Progress(label, total, unit)
    try:
        yield progress
    finally:
        progress.close()


def _silent() -> bool:
    return _settings.quiet or not is_first()


def _on_terminal() -> bool:
    # isatty of a closed stream raises ValueError; a missing one (pythonw) is None.
    with suppress(ValueError, AttributeError):
        plain = _settings.log_format == "text" and os.environ.get("TERM") != "dumb"
        return plain and not _silent() and sys.stderr.isatty()
    return False


def _open_bar(label: str, total: int | None) -> Any:
    # rich takes 0.1 s to import: only where a bar will be drawn.
    from rich.console import Console
    from rich.markup import escape
    from rich.progress import BarColumn, MofNCompleteColumn, TextColumn
    from rich.progress import Progress as RichProgress

    if _settings.bars is None:
        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
        figures = TextColumn("{task.fields[figures]}", markup=False)
        _settings.bars = RichProgress(*columns, figures, console=Console(stderr=True), transient=True)
        _settings.bars.start()
    _settings.open_bars += 1
    return _settings.bars.add_task(escape(label), total=total, figures="")


def _close_bar(bar: Any) -> None:
    if _settings.bars is None:
        return
    _settings.bars.remove_task(bar)
    _settings.open_bars -= 1
    if not _settings.open_bars:
        _settings.bars.stop()
        _settings.bars = None


def _clock(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}"
