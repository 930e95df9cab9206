"""Recipes: what is accepted, what is refused, and that a refusal says how to get it right."""

from __future__ import annotations

import string
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import Field, field_validator, model_validator

from fenghuo.config import (
    Recipe,
    build_recipe,
    dump_recipe,
    dump_yaml,
    read_recipe,
    read_yaml,
    recipe_keys,
    template,
)
from fenghuo.errors import RecipeError


class Train(Recipe):
    """How long."""

    exactly_one: ClassVar = (("steps", "epochs"),)

    steps: int | None = Field(default=None, gt=0)
    """Optimizer steps."""
    epochs: float | None = Field(default=None, gt=0)
    """Passes over the data."""
    rate: float = Field(default=1e-4, gt=0, le=1)
    """Peak rate."""
    precision: Literal["fp32", "bf16"] = "fp32"
    """Arithmetic."""
    shuffle: bool = True
    """Whether the order is drawn."""
    seed: int = 0
    """Grows into everything random."""

    @field_validator("seed")
    @classmethod
    def _not_unlucky(cls, seed: int) -> int:
        if seed == 13:
            raise ValueError("13 is unlucky")
        return seed


class Shape(Recipe):
    """A network by values."""

    layers: int
    """Number of layers."""
    width: int = Field(default=128, multiple_of=8)
    """Width of the stream."""


class Hide(Recipe):
    """Hidden pieces."""

    kind: Literal["hide"]
    """Its name."""
    rate: float = 0.15
    """Share hidden."""


class Order(Recipe):
    """Swapped sentences."""

    kind: Literal["order"]
    """Its name."""
    weight: float = 1.0
    """Its weight."""


class Whole(Recipe):
    """A recipe with every sort of key."""

    corpus: Path
    """Run folder of a corpus."""
    model: str | Shape = "small"
    """A preset's name, or values."""
    questions: list[Annotated[Hide | Order, Field(discriminator="kind")]] = Field(default=[])
    """What is asked."""
    files: list[str] = Field(default=["a.txt"], min_length=1)
    """Files to read."""
    train: Train = Train(epochs=3, rate=0.01)
    """How long."""
    teacher: Shape | None = None
    """Absent by default."""
    note: str | None = None
    """Free text."""

    @model_validator(mode="after")
    def _note_fits(self) -> Whole:
        if self.note == "wrong":
            raise ValueError("the note does not fit")
        return self


def write(folder: Path, text: str | bytes) -> Path:
    path = folder / "recipe.yaml"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


def refusal(folder: Path, text: str | bytes, flags: dict[str, Any] | None = None) -> str:
    with pytest.raises(RecipeError) as caught:
        read_recipe(Whole, write(folder, text), flags or {})
    return str(caught.value)


# What is accepted


def test_a_flag_wins_over_the_file_and_the_file_over_the_default(tmp_path: Path) -> None:
    path = write(tmp_path, "corpus: runs/c\ntrain: {steps: 5, rate: 0.5}\n")
    recipe = read_recipe(Whole, path, {"train.rate": "0.25"})
    assert (recipe.corpus, recipe.train.steps, recipe.train.rate) == (Path("runs/c"), 5, 0.25)
    assert recipe.train.precision == "fp32"


def test_a_flag_takes_the_place_of_another_of_its_group(tmp_path: Path) -> None:
    path = write(tmp_path, "corpus: c\ntrain: {steps: 7, seed: 1}\n")
    train = read_recipe(Whole, path, {"train.epochs": "2"}).train
    assert (train.epochs, train.steps, train.seed) == (2, None, 1)
    assert read_recipe(Whole, path, {"train.epochs": "null"}).train.steps == 7
    with pytest.raises(RecipeError, match="exactly one of 'steps' and 'epochs'"):
        read_recipe(Whole, path, {"train.epochs": "2", "train.steps": "3"})


def test_keys_a_part_does_not_name_come_from_the_fields_default(tmp_path: Path) -> None:
    # Not from the part's class: the template shows 0.01, so 0.01 it must be.
    recipe = read_recipe(Whole, write(tmp_path, "corpus: c\ntrain: {seed: 1}\n"), {})
    assert (recipe.train.rate, recipe.train.epochs, recipe.train.steps) == (0.01, 3, None)


def test_giving_one_of_a_group_undoes_anothers_default(tmp_path: Path) -> None:
    path = write(tmp_path, "corpus: c\ntrain: {steps: 7}\n")
    assert (read_recipe(Whole, path, {}).train.epochs, read_recipe(Whole, path, {}).train.steps) == (None, 7)
    assert "exactly one of 'steps' and 'epochs'" in refusal(
        tmp_path, "corpus: c\ntrain: {steps: 7, epochs: 1}"
    )


def test_flags_alone_make_a_recipe_and_text_becomes_what_the_key_wants() -> None:
    flags = {
        "corpus": "c",
        "files": ["x", "y"],
        "questions": '[{"kind": "hide", "rate": 0.3}]',
        "train.shuffle": "false",
        "train.rate": "1e-3",
        "model.layers": "2",
        "note": "null",
        "teacher": '{"layers": 4}',
    }
    recipe = read_recipe(Whole, None, flags)
    assert recipe.files == ["x", "y"]
    assert recipe.questions == [Hide(kind="hide", rate=0.3)]
    assert (recipe.train.shuffle, recipe.train.rate, recipe.note) == (False, 1e-3, None)
    assert (recipe.model, recipe.teacher) == (Shape(layers=2), Shape(layers=4))


def test_one_json_list_and_repeated_flags_say_the_same() -> None:
    one = read_recipe(Whole, None, {"corpus": "c", "files": ['["x", "y"]']})
    assert one == read_recipe(Whole, None, {"corpus": "c", "files": ["x", "y"]})


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("no", "no"),
        ("off", "off"),
        ("true", True),
        ("1e-4", 1e-4),
        ("1e4", 1e4),
        (".5", 0.5),
        ("010", 10),
        ("12:30", "12:30"),
        ("2020-01-01", "2020-01-01"),
        ("0x1F", "0x1F"),
        ("1_000", "1_000"),
        ("", None),
        ("~", None),
        ("服务", "服务"),
    ],
)
def test_scalars_are_read_by_yaml_1_2(tmp_path: Path, text: str, value: object) -> None:
    found = read_yaml(write(tmp_path, f"key: {text}\n"))["key"]
    assert found == value
    assert type(found) is type(value)


def test_a_byte_order_mark_and_windows_lines_are_no_trouble(tmp_path: Path) -> None:
    path = write(tmp_path, b"\xef\xbb\xbfcorpus: c\r\ntrain: {steps: 1}\r\n")
    assert read_recipe(Whole, path, {}).train.steps == 1


scalars = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=20)
values = st.recursive(
    scalars,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
)


@pytest.mark.slow
@given(st.dictionaries(st.text(alphabet=string.printable, max_size=8), values, max_size=4))
def test_yaml_is_read_back_as_it_was_written(tmp_path_factory: pytest.TempPathFactory, value: Any) -> None:
    path = tmp_path_factory.mktemp("yaml") / "recipe.yaml"
    path.write_bytes(dump_yaml(value).encode())
    assert read_yaml(path) == value


@given(
    note=st.none() | st.text(max_size=30).filter(lambda text: text != "wrong"),
    rate=st.floats(min_value=1e-300, max_value=1, exclude_min=True),
    files=st.lists(st.text(max_size=9), min_size=1, max_size=3),
    model=st.text(max_size=9) | st.builds(Shape, layers=st.integers()),
    questions=st.lists(st.builds(Hide, kind=st.just("hide")) | st.builds(Order, kind=st.just("order"))),
)
def test_a_resolved_recipe_reads_back_as_itself(
    tmp_path_factory: pytest.TempPathFactory,
    note: str | None,
    rate: float,
    files: list[str],
    model: str | Shape,
    questions: list[Hide | Order],
) -> None:
    train = Train(steps=3, rate=rate)
    recipe = Whole(corpus=Path("c"), note=note, files=files, model=model, questions=questions, train=train)
    path = tmp_path_factory.mktemp("recipe") / "recipe.yaml"
    path.write_bytes(dump_recipe(recipe).encode())
    assert read_recipe(Whole, path, {}) == recipe


def test_a_recipe_is_frozen() -> None:
    with pytest.raises(ValueError, match="frozen"):
        Whole(corpus=Path("c")).corpus = Path("d")  # type: ignore[misc]


# What is refused, and the way out


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("train: {steps: 1}", ["recipe.yaml: missing key 'corpus' (Run folder of a corpus.)", "a path"]),
        (
            "corpus: c\ntrian: {}",
            ["unknown key 'trian'", "Did you mean 'train'?", "known keys: corpus, files"],
        ),
        (
            "corpus: c\ntrain: {rat: 1}",
            ["unknown key 'train.rat'", "Did you mean 'rate'?", "in 'train': epochs"],
        ),
        ("corpus: c\nsteps: 5", ["unknown key 'steps'", "Did you mean 'train.steps'?"]),
        ("corpus: c\ntrain: {steps: many}", ["train.steps: given 'many'; allowed: a whole number"]),
        ("corpus: c\ntrain: {steps: 1.5}", ["train.steps: given 1.5; allowed: a whole number"]),
        ("corpus: c\ntrain: {steps: true}", ["train.steps: given 'true'; allowed: a whole number"]),
        ("corpus: c\ntrain: {steps: 0}", ["train.steps: given 0; allowed: more than 0"]),
        ("corpus: c\ntrain: {rate: 2}", ["train.rate: given 2; allowed: 1.0 or less"]),
        ("corpus: c\ntrain: {rate: .nan}", ["train.rate: given nan; allowed: a finite number"]),
        ("corpus: c\ntrain: {precision: fp23}", ["'fp32' or 'bf16'. Did you mean 'fp32'?"]),
        ("corpus: c\ntrain: {shuffle: perhaps}", ["train.shuffle: given 'perhaps'; allowed: true or false"]),
        ("corpus: c\ntrain: {seed: 13}", ["train.seed: 13 is unlucky (given 13)"]),
        ("corpus: c\ntrain:", ["train: given nothing; allowed: a mapping with keys steps, epochs, rate"]),
        ("corpus: c\ntrain: 5", ["train: given 5; allowed: a mapping"]),
        ("corpus: c\nfiles: []", ["files: given []; allowed: at least 1 items"]),
        ("corpus: c\nfiles: x", ["files: given 'x'; allowed: a list"]),
        ("corpus: c\nfiles: [x, 3]", ["files[1]: given 3; allowed: text"]),
        ("corpus: 3", ["corpus: given 3; allowed: a path"]),
        ("corpus: c\nmodel: [1]", ["model: given [1]; allowed: text or a mapping with keys layers, width"]),
        ("corpus: c\nmodel: {layers: 1, width: 9}", ["model.width: given 9; allowed: a multiple of 8"]),
        ("corpus: c\nmodel: {width: 8}", ["missing key 'model.layers' (Number of layers.)"]),
        ("corpus: c\nquestions: [{kind: hid}]", ["questions[0]", "'hide', 'order'", "Did you mean 'hide'?"]),
        ("corpus: c\nquestions: [{rate: 1}]", ["missing key 'questions[0].kind'", "'hide' | 'order'"]),
        (
            "corpus: c\nquestions: [{kind: hide, weight: 1}]",
            ["unknown key 'questions[0].weight'", "kind, rate"],
        ),
        ("corpus: c\nnote: wrong", ["recipe.yaml: the note does not fit"]),
    ],
)
def test_a_wrong_value_is_told_with_place_and_way_out(tmp_path: Path, text: str, says: list[str]) -> None:
    message = refusal(tmp_path, text)
    for part in says:
        assert part in message


def test_every_problem_is_told_at_once(tmp_path: Path) -> None:
    message = refusal(tmp_path, "corpus: 3\nsteps: 3\ntrain: {rate: x, precision: y}\nfiles: z\n")
    for key in ("corpus", "steps", "train.rate", "train.precision", "files"):
        assert key in message


def test_a_wrong_flag_is_named_as_a_flag(tmp_path: Path) -> None:
    good = "corpus: c\nmodel: small\n"
    assert refusal(tmp_path, good, {"train.rate": "abc"}).startswith(
        "--train.rate: given 'abc'; allowed: a number"
    )
    assert refusal(tmp_path, good, {"train.stpes": "1"}).startswith(
        "--train.stpes: unknown key 'train.stpes'"
    )
    assert "not valid JSON" in refusal(tmp_path, good, {"questions": "[{]"})
    assert "'model' is 'small' in the recipe" in refusal(tmp_path, good, {"model.layers": "1"})


@pytest.mark.parametrize("text", ["", "# nothing but a comment\n", "---\n", "null\n", "{}"])
def test_an_empty_recipe_is_told_what_it_needs(tmp_path: Path, text: str) -> None:
    message = refusal(tmp_path, text)
    assert "empty recipe" in message
    assert "needed: corpus\n" in message


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("corpus: [", "recipe.yaml:1:"),
        ("corpus: a\ncorpus: b", "recipe.yaml:2:1: not valid YAML: key 'corpus' stands twice"),
        ("train: {rate: 1, rate: 2}", "key 'rate' stands twice"),
        ("- corpus", "a recipe is a mapping (`key: value` lines); given: a list"),
        ("just text", "given: text"),
        ("1: x", "key 1 is a number; allowed: text"),
        ("a: 1\n---\nb: 2", "not valid YAML"),
        ("a: \tb\n\tc: d", "not valid YAML"),
        ("&a a: *b", "undefined alias"),
        ("? [a, b]\n: c", "not valid YAML"),
        (b"\xff\xfe\x00binary", "not a text file (byte 0 is not UTF-8)"),
        (b"corpus: \x00", "not a text file (byte 8 is NUL)"),
        ("corpus: \x07", "not valid YAML"),
        ("[" * 5000, "not valid YAML"),
        ("a: " + "9" * 5000, "not valid YAML"),
    ],
)
def test_what_is_not_a_yaml_mapping_is_told_so(tmp_path: Path, text: str | bytes, says: str) -> None:
    assert says in refusal(tmp_path, text)


def test_a_recipe_that_holds_itself_is_refused(tmp_path: Path) -> None:
    message = refusal(tmp_path, "corpus: c\nquestions: &q [*q]\n")
    assert "questions" in message


@pytest.mark.parametrize(
    "tag", ["!!python/object/apply:os.system ['true']", "!!python/name:os.system", "!x y"]
)
def test_no_tag_runs_anything(tmp_path: Path, tag: str) -> None:
    assert "could not determine a constructor" in refusal(tmp_path, f"corpus: {tag}")


def test_a_missing_file_a_folder_and_a_forbidden_file_are_told_apart(tmp_path: Path) -> None:
    write(tmp_path, "corpus: c")
    with pytest.raises(RecipeError, match=r"recip\.yaml: no such file\. Did you mean '.*recipe\.yaml'\?"):
        read_recipe(Whole, tmp_path / "recip.yaml", {})
    with pytest.raises(RecipeError, match="There is no folder"):
        read_recipe(Whole, tmp_path / "nowhere" / "recipe.yaml", {})
    with pytest.raises(RecipeError, match=r"given: a folder \(with recipe\.yaml\)"):
        read_recipe(Whole, tmp_path, {})
    with pytest.raises(RecipeError, match="cannot be read"):
        read_recipe(Whole, tmp_path / ("x" * 300), {})
    with pytest.raises(RecipeError, match="cannot be read"):
        read_recipe(Whole, tmp_path / "recipe.yaml" / "below", {})


def test_a_data_file_given_as_a_recipe_is_not_read(tmp_path: Path) -> None:
    assert "too much for a recipe" in refusal(tmp_path, "x: " + "a" * 5_000_000)


def test_values_from_python_name_their_origin() -> None:
    assert build_recipe(Whole, {"corpus": "c"}).corpus == Path("c")
    with pytest.raises(RecipeError, match=r"^the demo: missing key 'corpus'"):
        build_recipe(Whole, {}, where="the demo")


def test_building_leaves_the_given_values_alone() -> None:
    given_values = {"corpus": "c", "train": {"seed": 1}}
    build_recipe(Whole, given_values)
    assert given_values == {"corpus": "c", "train": {"seed": 1}}


# Keys and template


def test_keys_are_listed_with_help_default_and_need() -> None:
    keys = {key.path: key for key in recipe_keys(Whole)}
    assert keys["corpus"].required
    assert keys["corpus"].help == "Run folder of a corpus."
    assert (keys["train.rate"].default, keys["train.rate"].required) == (0.01, False)
    assert keys["train"].section
    assert not keys["model"].section
    assert keys["model.layers"].help == "Number of layers."
    assert keys["files"].many
    assert keys["train.precision"].allowed == "'fp32' | 'bf16'"
    assert keys["questions"].allowed == "a list of (a mapping (kind, rate) | a mapping (kind, weight))"


def test_a_filled_in_template_is_the_default_recipe(tmp_path: Path) -> None:
    text = template(Whole)
    assert "# Run folder of a corpus. [a path]\ncorpus:  # REQUIRED\n" in text
    assert "Give exactly one of steps, epochs." in text
    filled = write(tmp_path, text.replace("corpus:  # REQUIRED", "corpus: c"))
    assert read_recipe(Whole, filled, {}) == Whole(corpus=Path("c"))


def test_every_key_stands_in_the_template_with_its_help() -> None:
    text = " ".join(template(Whole).replace("#", " ").split())
    for key in recipe_keys(Whole):
        assert f"{key.path.rsplit('.', 1)[-1]}:" in text
        assert key.help in text
