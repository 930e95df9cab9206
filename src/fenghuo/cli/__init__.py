"""The command line: one verb a stage, in the order the data passes through them."""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
import traceback
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from cyclopts import App, CycloptsError, Group, Parameter

from fenghuo import __version__, ranks
from fenghuo.cli.failures import readable
from fenghuo.cli.verbs import PLAIN, STAGES, SUBVERBS, Plain
from fenghuo.cli.voice import with_voice
from fenghuo.errors import FenghuoError, StoppedError, ToldError, UsageError
from fenghuo.progress import complain

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

INTRODUCTION = """From raw text, Chinese first, to a small, fast language encoder.

text → corpus → pretrain → finetune → distill → quantize → serve"""

WAIT_FOR_RANK_0_S = 2.0
_ORDER = [
    *("demo", "corpus", "vocab", "convert", "pretrain", "finetune", "augment", "distill", "quantize"),
    *("export", "evaluate", "predict", "serve", "report", "ledger"),
]


def main(argv: Sequence[str] | None = None) -> int:
    """Run `fenghuo` with these words (default: the process's own) and return the exit code."""
    words = list(sys.argv[1:] if argv is None else argv)
    verb = _verb(words)
    name = f"fenghuo {verb}" if verb else "fenghuo"
    try:
        with _stopped_by_signals():
            result = _call(words, verb)
            sys.stdout.flush()
        return result if isinstance(result, int) else 0
    except BrokenPipeError:
        # Whoever read our output has seen enough (`| head`). Python's own flush at exit must not complain.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except (Exception, KeyboardInterrupt) as error:
        known = readable(error)
        if os.environ.get("FENGHUO_TRACEBACK"):
            traceback.print_exception(error)
        if _is_to_be_told(known):
            complain(f"{name} ({ranks.name()}): {known}" if ranks.size() > 1 else f"{name}: {known}")
        return known.exit_code


def _is_to_be_told(error: FenghuoError) -> bool:
    """Whether it is this process that tells an error, where torchrun started several.

    What goes wrong before they know of one another, such as a mistyped key, goes wrong in all of them: rank 0 tells,
    and the launcher ends the others while they wait. One that is left after that is alone with its error.
    """
    if ranks.is_first() or isinstance(error, ToldError):
        return ranks.is_first() and not isinstance(error, ToldError)
    if isinstance(error, StoppedError):
        return False
    time.sleep(WAIT_FOR_RANK_0_S)
    return True


def build_app(verb: str | None) -> App:
    """All verbs with their one line of help; only `verb` itself with its keys, since they cost imports."""
    app = App(
        name="fenghuo",
        help=INTRODUCTION,
        help_format="plaintext",
        help_epilogue="`fenghuo VERB --help` shows the verb's flags and examples.",
        version=__version__,
        default_parameter=Parameter(negative=()),
        group_commands=Group("Verbs", sort_key=0),
        suppress_keyboard_interrupt=False,
    )
    for place, name in enumerate(_ORDER):
        if name in SUBVERBS:
            above = App(name=name, help=SUBVERBS[name][0], sort_key=place)
            for inner, plain in SUBVERBS[name][1].items():
                above.command(_leaf(inner, plain.help, plain.examples, _plain(plain, name == verb)))
            app.command(above)
        elif name in PLAIN:
            plain = PLAIN[name]
            app.command(_leaf(name, plain.help, plain.examples, _plain(plain, name == verb), sort_key=place))
        else:
            stage = STAGES[name]
            app.command(_leaf(name, stage.help, stage.examples, _command(name, verb), sort_key=place))
    for name in STAGES.keys() - set(_ORDER):
        app.command(_leaf(name, STAGES[name].help, STAGES[name].examples, _command(name, verb)))
    return app


def _command(name: str, verb: str | None) -> Callable[..., Any] | None:
    if name != verb:
        return None
    from fenghuo.cli.stage import stage_command  # brings pydantic, and the stage's recipe

    return stage_command(name, STAGES[name])


def _plain(plain: Plain, asked: bool) -> Callable[..., Any] | None:
    return with_voice(plain.function) if asked else None


def _leaf(
    name: str,
    summary: str,
    examples: Sequence[str],
    function: Callable[..., Any] | None,
    sort_key: int | None = None,
) -> App:
    shown = "\n\n".join(["Examples:", *(f"    {line}" for line in examples)]) if examples else None
    app = App(name=name, help=summary, help_epilogue=shown, sort_key=sort_key)
    if function is not None:
        app.default(function)
    return app


def _call(words: list[str], verb: str | None) -> Any:
    app = build_app(verb)
    try:
        return app(
            _with_underscores(words, verb),
            exit_on_error=False,
            print_error=False,
            result_action="return_value",
        )
    except CycloptsError as error:
        raise UsageError(f"{error}\n  --help shows what is known") from None


def _verb(words: Sequence[str]) -> str | None:
    first = words[0] if words else ""
    return first if first in STAGES or first in PLAIN or first in SUBVERBS else None


def _with_underscores(words: list[str], verb: str | None) -> list[str]:
    """`--train.log-every` for `--train.log_every`: people type flags both ways."""
    if verb not in STAGES:
        return words
    return [
        f"--{name.replace('-', '_')}{equals}{value}" if word.startswith("--") and "." in name else word
        for word in words
        for name, equals, value in [word[2:].partition("=")]
    ]


class _Stop(KeyboardInterrupt):
    """Ctrl-C or SIGTERM. A class of its own, since Python notes a plain KeyboardInterrupt that passes through `exec`
    (of which importing is full), and then dies of SIGINT in the place of any exit code."""


@contextmanager
def _stopped_by_signals() -> Iterator[None]:
    """SIGINT and SIGTERM raise KeyboardInterrupt; a stage that saves on signals installs its own handlers.

    A signal is often noticed at the end of a long call into C, in a callback of a weak reference or a
    destructor. What is raised there Python shows and drops, so it is raised again a moment later.
    """

    def stop(number: int, frame: object) -> None:
        raise _Stop

    def dropped(problem: sys.UnraisableHookArgs) -> None:
        if issubclass(problem.exc_type, KeyboardInterrupt):
            signal.setitimer(signal.ITIMER_REAL, 0.01)
        else:
            hook(problem)

    if threading.current_thread() is not threading.main_thread():
        yield
        return
    hook, sys.unraisablehook = sys.unraisablehook, dropped
    numbers = (signal.SIGALRM, signal.SIGTERM, signal.SIGINT)
    # nohup, and a shell's background jobs, ask for a signal to be ignored.
    heard = [number for number in numbers if signal.getsignal(number) != signal.SIG_IGN]
    before = {number: signal.signal(number, stop) for number in heard}
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        for number, handler in before.items():
            signal.signal(number, handler)
        sys.unraisablehook = hook
