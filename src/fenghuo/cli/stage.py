"""A verb that reads a recipe: flags from the recipe's class, work from the stage's `run` and `plan`."""

from __future__ import annotations

import inspect
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, NoReturn

from cyclopts import Group, Parameter
from pydantic import TypeAdapter

from fenghuo.cli.calls import load
from fenghuo.cli.failures import readable
from fenghuo.cli.verbs import Stage
from fenghuo.cli.voice import COMMON, SWITCH, with_voice
from fenghuo.config import Recipe, RecipeKey, dump_recipe, read_recipe, recipe_keys, template
from fenghuo.errors import MissingExtraError, RecipeError, UsageError
from fenghuo.progress import say
from fenghuo.ranks import is_first, size
from fenghuo.rundir import RunDir

TOP = Group("Recipe", "Keys of the recipe, which may stand in the YAML file too; a flag wins.", sort_key=1)


def stage_command(verb: str, stage: Stage) -> Callable[..., int]:
    """The function behind `fenghuo VERB`, with one keyword for each key of the recipe."""
    kind: type[Recipe] = load(stage.recipe)
    # A prefix, since a recipe may have a key `device` of its own.
    keys = {"key__" + key.path.replace(".", "__"): key for key in recipe_keys(kind)}

    def command(
        recipe: Annotated[Path | None, Parameter(group=COMMON)] = None,
        /,
        *,
        out: Annotated[Path | None, Parameter(group=COMMON)] = None,
        overwrite: Annotated[bool, SWITCH] = False,
        resume: Annotated[Literal["auto", "never"], Parameter(group=COMMON)] = "auto",
        print_recipe: Annotated[bool, SWITCH] = False,
        dry_run: Annotated[bool, SWITCH] = False,
        device: Annotated[str | None, Parameter(group=COMMON)] = None,
        seed: Annotated[str | None, Parameter(group=COMMON)] = None,
        budget: Annotated[str | None, Parameter(group=COMMON)] = None,
        **given: Any,
    ) -> int:
        """
        Args:
            recipe: YAML file; may be left out where flags say all.
            out: Run folder to make, or to go on with.
            overwrite: Replace what is in the run folder.
            resume: never refuses to go on with an unfinished run.
            print_recipe: Alone, show a template to fill in; with a recipe, show it resolved. Run nothing.
            dry_run: Show what the run would do and take. Run nothing.
            device: Where the arithmetic is done: cpu, cuda, or auto, which takes a CUDA card where there is one.
            seed: What everything random grows from; short for the recipe's key of that name.
            budget: How long the run may take, such as 2h; short for the recipe's key of that name.
        """
        began_s = time.monotonic()
        overrides = {keys[name].path: value for name, value in given.items() if value is not None}
        known = [key.path for key in keys.values()]
        _put_short(overrides, known, verb, "device", device)
        _put_short(overrides, known, verb, "seed", seed)
        _put_short(overrides, known, verb, "budget", budget)
        if print_recipe and recipe is None and not overrides:
            sys.stdout.write(template(kind))
            return 0
        resolved = read_recipe(kind, recipe, overrides)
        if print_recipe:
            sys.stdout.write(dump_recipe(resolved))
        elif dry_run:
            print(load(stage.run.replace(":run", ":plan"))(resolved))
        else:
            _run(verb, stage, resolved, recipe, out, overwrite=overwrite, resume=resume, began_s=began_s)
        return 0

    return with_voice(command, _flags(keys))


def _run(
    verb: str,
    stage: Stage,
    recipe: Recipe,
    path: Path | None,
    out: Path | None,
    *,
    overwrite: bool,
    resume: Literal["auto", "never"],
    began_s: float,
) -> None:
    if out is None:
        raise UsageError("needs --out RUN, the run folder to make")
    if size() > 1 and not stage.spreads:
        raise UsageError(f"{verb} runs in one process: start it without torchrun")
    work = load(stage.run)  # before the folder is touched: a missing package must not cost an old run
    inputs = [] if path is None or path.resolve() == (out / "recipe.yaml").resolve() else [path]
    run = RunDir.open(out, verb=verb, recipe=recipe, overwrite=overwrite, resume=resume, inputs=inputs)
    run.began_s = began_s
    if run.state == "finished":
        if is_first() and not (out / "report.html").exists():
            _page(run)  # a signal or a full disk came between the result and its page
        say(f"{out}: this run is finished; nothing to do")
        return
    try:
        work(recipe, run)
        if is_first():
            _page(run)
    except (Exception, KeyboardInterrupt) as error:
        _give_up(error, run)
    finally:
        run.close()


def _page(run: RunDir) -> None:
    """The run's own page, unless what draws curves is not installed; the run itself is whole without it."""
    try:
        load("fenghuo.report.page:write_page")(run.path)
    except MissingExtraError as problem:
        say(f"no {run.path / 'report.html'}: {problem}")


def _give_up(error: BaseException, run: RunDir) -> NoReturn:
    known = readable(error, log=run.path / "log.txt")
    if isinstance(known, UsageError):
        run.forget()
    if known is error:
        raise error
    raise known from error


def _put_short(overrides: dict[str, Any], known: list[str], verb: str, short: str, value: str | None) -> None:
    """`--seed 3` for the recipe's own key, which stands under `train` or at the top."""
    if value is None:
        return
    path = next((one for one in (f"train.{short}", short) if one in known), None)
    if path is None:
        if short == "device" and value in ("cpu", "auto"):
            return  # a stage without the key computes there anyway
        raise RecipeError(f"--{short}: given {value!r}, but the recipe of {verb} has no such key")
    if overrides.setdefault(path, value) != value:
        raise RecipeError(f"--{short}: given {value!r}, but --{path} is {overrides[path]!r}")


def _flags(keys: Mapping[str, RecipeKey]) -> list[inspect.Parameter]:
    """One keyword for each key; values are taken as text, so that the recipe alone decides what is right."""
    sections = dict.fromkeys(
        key.path if key.section else key.path.rpartition(".")[0] for key in keys.values()
    )
    groups = {
        name: Group(f"Recipe: {name}", sort_key=place) for place, name in enumerate(sections, start=2) if name
    }
    return [
        inspect.Parameter(
            name,
            inspect.Parameter.KEYWORD_ONLY,
            default=None,
            annotation=Annotated[
                list[str] | None if key.many else str | None,
                Parameter(
                    name=f"--{key.path}",
                    group=groups.get(key.path) or groups.get(key.path.rpartition(".")[0], TOP),
                    help=_help(key),
                    metavar=_metavar(key),
                    negative=(),
                    show_default=False,
                ),
            ],
        )
        for name, key in keys.items()
        # `device` and `seed` at the top are the common flags already.
        if key.path not in ("device", "seed")
    ]


def _metavar(key: RecipeKey) -> str:
    return "VALUE..." if key.many else "JSON" if key.nested or key.section else "VALUE"


def _help(key: RecipeKey) -> str:
    if key.section:
        return f"{key.help} [all at once, as JSON]"
    default = TypeAdapter(Any).dump_json(key.default).decode().strip('"')
    return f"{key.help} [{key.allowed}; {'needed' if key.required else f'default: {default}'}]"
