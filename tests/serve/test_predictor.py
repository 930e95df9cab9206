"""Rows → answers through a hand-made ONNX model whose answers are known without it."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.serve.made_models import CHARACTERS, CLASSES, class_scores, make_folder, onnx_of

from fenghuo.cores import usable_cores
from fenghuo.errors import DataError, ModelError
from fenghuo.serve.backends import load_backend
from fenghuo.serve.predictor import by_length, load_predictor

TEXTS = ["服务很好", "服务很差！", "好", "我在北京大学，很好的大学。", "坏坏坏"]


def test_every_class_has_the_probability_the_table_gives(folders):
    predict = load_predictor(folders["classify"])
    for text, answer in zip(TEXTS, predict(TEXTS, all_scores=True), strict=True):
        share = class_scores(text)
        assert answer["label"] == CLASSES[int(share.argmax())]
        assert answer["score"] == pytest.approx(share.max(), abs=1e-5)
        assert answer["scores"] == pytest.approx(dict(zip(CLASSES, share, strict=True)), abs=1e-5)
    assert set(predict(TEXTS)[0]) == {"label", "score"}


@settings(deadline=None, max_examples=30)
@given(st.lists(st.text(alphabet=CHARACTERS, min_size=1, max_size=60), max_size=40))
def test_order_and_answers_do_not_depend_on_the_company(folders, texts):
    predict = load_predictor(folders["classify"], threads=1)
    for text, answer in zip(texts, predict(texts), strict=True):
        (alone,) = predict([text])
        assert answer["label"] == alone["label"]
        assert answer["score"] == pytest.approx(alone["score"], abs=2e-6)


def test_pairs_frame_both_texts(folders):
    predict = load_predictor(folders["pair"])
    rows = [("好", "坏"), {"text": "服务", "text_pair": "很差"}]
    for (text, pair), answer in zip(
        [("好", "坏"), ("服务", "很差")], predict(rows, all_scores=True), strict=True
    ):
        assert answer["scores"] == pytest.approx(
            dict(zip(CLASSES, class_scores(text, pair), strict=True)), abs=1e-5
        )


def test_a_regression_answers_with_a_number(folders):
    predict = load_predictor(folders["regress"])
    (one,), (two,) = predict([{"text": "好"}]), predict([("好", "坏")])
    assert set(one) == {"score"}
    assert one["score"] != two["score"]


def test_entities_stand_at_characters_of_the_given_text(folders):
    predict = load_predictor(folders["tag"])
    (answer,) = predict(["\u200b张三 在\x00😀北京， 见李四"])
    found = [(e["label"], e["text"], e["start"], e["end"]) for e in answer["entities"]]
    assert found == [("PER", "张三", 1, 3), ("LOC", "北京", 7, 9), ("PER", "李四", 12, 14)]


@pytest.mark.slow
@settings(deadline=None, max_examples=60)
@given(st.lists(st.sampled_from(["北京", "张三", "一二三", "，", "。", "new york", " "]), max_size=120))
def test_no_entity_of_a_long_text_is_lost(folders, parts):
    text = "我" + "".join(parts)
    predict = load_predictor(folders["tag"], threads=1)
    short = load_predictor_with_length(folders["tag"], 512)
    assert predict([text]) == short([text])


def load_predictor_with_length(folder: Path, max_length: int):
    wide = folder.parent / f"tag-{max_length}"
    if not wide.exists():
        make_folder(wide, "tag", max_length=max_length)
    return load_predictor(wide, threads=1)


def test_tokens_are_joined_as_training_joins_them(folders):
    predict = load_predictor(folders["tag"])
    by_tokens, by_text = predict([{"tokens": ["我", "在", "北", "京", "new", "york"]}, "我在北京new york"])
    assert by_tokens == by_text
    assert by_tokens["entities"][0]["text"] == "北京"


def test_a_long_text_to_classify_is_cut_and_that_is_known(folders):
    predict = load_predictor(folders["classify"])
    assert predict.ask("好" * 30).cut is False
    assert predict.ask("好" * 31).cut is True
    assert predict(["好" * 31]) == predict(["好" * 30])
    assert load_predictor(folders["tag"]).ask("好" * 500).cut is False


@pytest.mark.parametrize(
    ("kind", "row", "message"),
    [
        ("classify", 5, "an object was wanted, found int"),
        ("classify", {"txt": "好"}, "no 'text' in it. Found: txt"),
        ("classify", {"text": None}, "'text' must be text, found NoneType"),
        ("classify", {"text": " \n"}, "'text' is empty"),
        ("classify", ("好", "坏"), "takes one text"),
        ("pair", "好", "no 'text_pair' in it"),
        ("tag", {"tokens": "我在"}, "'tokens' must be a list"),
        ("tag", {"tokens": ["我", 1]}, "'tokens' must be a list of texts"),
        ("tag", {"tokens": []}, "'text' is empty"),
    ],
)
def test_a_row_that_is_no_question_says_why(folders, kind, row, message):
    with pytest.raises(DataError, match="row 1: .*" + message):
        load_predictor(folders[kind])([("好", "好") if kind == "pair" else "好", row])


def test_a_bare_text_is_not_taken_for_a_list_of_characters(folders):
    with pytest.raises(DataError, match=r"predict\(\[text\]\)"):
        load_predictor(folders["classify"])("服务很好")


def test_odd_characters_are_answered_not_refused(folders):
    predict = load_predictor(folders["classify"])
    assert len(predict(["\ud800好", "\x00", "🀄️" * 50, "\u200b好"])) == 4


def test_the_quantized_file_is_taken_first_and_each_can_be_named(tmp_path):
    folder = make_folder(tmp_path / "m", "classify")
    assert load_predictor(folder).backend == "onnx"
    with pytest.raises(ModelError, match=r"no onnx/model_quantized.onnx in it. `fenghuo quantize` makes it"):
        load_predictor(folder, backend="int8")
    shutil.copy(folder / "onnx/model.onnx", folder / "onnx/model_quantized.onnx")
    assert load_predictor(folder).backend == "int8"
    assert load_predictor(folder, backend="onnx").backend == "onnx"


def test_a_run_folder_stands_for_its_model(tmp_path):
    make_folder(tmp_path / "run" / "model", "classify")
    assert load_predictor(tmp_path / "run").folder == tmp_path / "run" / "model"


def test_threads_default_to_the_cores_this_process_may_use(folders):
    assert load_predictor(folders["classify"]).threads == usable_cores() >= 1
    assert load_predictor(folders["classify"], threads=1).threads == 1


def change_config(folder: Path, change) -> None:
    config = json.loads((folder / "config.json").read_text())
    change(config)
    (folder / "config.json").write_text(json.dumps(config))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda c: c.pop("fenghuo"), "names no task.*Fine-tune it first"),
        (lambda c: c["fenghuo"]["task"].pop("max_length"), "block is damaged"),
        (lambda c: c["fenghuo"]["task"].update(kind="dance"), "no way to answer the task 'dance'"),
        (
            lambda c: c["fenghuo"]["task"].update(labels=["a", "b"]),
            r"shape \(3,\), which does not fit .* with 2 labels",
        ),
    ],
)
def test_a_folder_that_cannot_answer_says_what_to_do(tmp_path, change, message):
    folder = make_folder(tmp_path / "m", "classify")
    change_config(folder, change)
    with pytest.raises(ModelError, match=message):
        load_predictor(folder)


def test_files_that_do_not_belong_together_are_told_at_once(tmp_path):
    folder = make_folder(tmp_path / "m", "classify")
    with (folder / "vocab.txt").open("a") as file:
        file.write("龙\n")
    with pytest.raises(ModelError, match="cannot read the tokenizer's last piece"):
        load_predictor(folder)


def test_damaged_and_foreign_onnx_files_are_named(tmp_path):
    folder = make_folder(tmp_path / "m", "classify")
    path = folder / "onnx" / "model.onnx"
    path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(ModelError, match=r"model\.onnx: onnxruntime cannot read it"):
        load_backend(folder)
    foreign = onnx_of("classify")
    foreign.graph.input[0].name = foreign.graph.node[0].input[1] = "tokens"
    onnx.save(foreign, path)
    with pytest.raises(ModelError, match="takes attention_mask, token_type_ids, tokens and gives logits"):
        load_backend(folder)
    shutil.rmtree(folder / "onnx")
    with pytest.raises(
        ModelError, match=r"no onnx/model_quantized.onnx nor onnx/model.onnx nor model.safetensors"
    ):
        load_backend(folder)
    with pytest.raises(ModelError, match="not a model folder"):
        load_predictor(tmp_path / "nowhere")


@given(st.lists(st.integers(1, 50), max_size=60), st.integers(1, 200))
def test_groups_hold_everything_once_within_the_budget(lengths, budget):
    groups = list(by_length(lengths, budget))
    assert sorted(number for group in groups for number in group) == list(range(len(lengths)))
    for group in groups:
        assert len(group) == 1 or len(group) * max(lengths[number] for number in group) <= budget
    assert np.all(np.diff([lengths[number] for group in groups for number in group]) >= 0)
