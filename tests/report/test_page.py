"""The report as one page: whole, self-contained, and safe with whatever the runs hold."""

import json
import re
from html.parser import HTMLParser

import pytest

from fenghuo.errors import DamagedError, RunError
from fenghuo.report.charts import MARKERS, Point, curves, marker_key, panels, tradeoff
from fenghuo.report.details import short_names
from fenghuo.report.ledger import ledger
from fenghuo.report.page import write_report
from fenghuo.study.statistics import compare

CURVES = [
    {"step": step, "train/loss": 8 / step, "train/mlm_accuracy": 0.01 * step, "train/learning_rate": 1e-4}
    for step in range(1, 31)
] + [{"step": 30, "dev/accuracy": 0.9, "dev/loss": None}]
VOID = {"meta", "br", "wbr", "input", "img"}


class Page(HTMLParser):
    """Tags closed in order, ids, links, and what would be fetched or run."""

    def __init__(self, html):
        super().__init__()
        self.open, self.ids, self.links, self.outside, self.text = [], [], [], [], []
        self.scripts = 0
        self.feed(html)
        self.close()
        assert not self.open

    def handle_starttag(self, tag, attrs):
        if tag not in VOID:
            self.open.append(tag)
        self.scripts += tag == "script"
        for name, value in attrs:
            assert not name.startswith("on"), f"{tag} {name}"
            if name == "id":
                self.ids.append(value)
            if name in ("href", "xlink:href", "src", "action"):
                (self.links if value.startswith("#") else self.outside).append(value)

    def handle_startendtag(self, tag, attrs):
        self.handle_starttag(tag, attrs)
        if tag not in VOID:
            self.open.pop()

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text.append(data)


def report(runs, paths, **more):
    out = runs.folder / "report.html"
    write_report(paths, out, rows=more.pop("rows", None) or ledger(paths, measure=False), **more)
    html = out.read_text(encoding="utf-8")
    return html, Page(html)


def test_the_page_needs_nothing_but_itself(runs):
    html, page = report(runs, runs.line())
    assert page.outside == []
    assert page.scripts == 0
    addresses = set(re.findall(r"https?://[^\s\"'<)]+", html))
    assert addresses <= {"http://www.w3.org/1999/xlink", "http://www.w3.org/2000/svg"}  # names, not hosts
    assert "default-src 'none'" in html


@pytest.mark.slow
def test_every_link_leads_somewhere_and_every_name_is_its_own(runs):
    line = runs.line()
    line.append(runs.answering("curves", role="finetuned", value=0.9, data=runs.data(), metrics=CURVES))
    line.append(runs.answering("same curves", role="finetuned", value=0.9, data=runs.data(), metrics=CURVES))
    _, page = report(runs, line)
    assert {link.removeprefix("#") for link in page.links} <= set(page.ids)
    names = [name for name in page.ids if not re.match(r"[0-9a-f]{8}-", name)]
    assert len(set(names)) == len(names)


@pytest.mark.slow
def test_what_runs_hold_is_text(runs):
    evil = "<script>alert(1)</script>\"'><img src=x onerror=alert(1)>"
    run = runs.make(
        "run & <b>小模型</b>",
        result={"role": evil, "task": evil, "metric": evil, "value": 0.5, evil: evil, "list": [evil]},
        metrics=[{"step": 1, evil: 0.5, "train/$loss_": 1.0}, {"step": 2, evil: 0.6, "train/$loss_": 2.0}],
        recipe=f"a: '{evil}'\n",
        inputs=[("data", evil)],
    )
    html, page = report(runs, [run])
    assert page.scripts == 0
    assert evil not in html
    assert evil in "".join(page.text)
    assert "run & <b>小模型</b>" in "".join(page.text)


def test_the_page_says_what_the_runs_say(runs):
    line = runs.line()
    html, page = report(runs, line)
    text = " ".join(page.text)
    for words in ("teacher", "quantized", "nezha 4x64 int8", "0.9075", "+1.25", "seed: 1", "2.13.0"):
        assert words in text
    assert "A processor, 2 cores" in text
    assert text.count("sha256 begins") == 5  # the pretrained one was made from nothing
    assert ">points lost</dt><dd>1.25<" in html


@pytest.mark.slow
def test_pictures_of_timed_runs(runs):
    line = runs.line()
    rows = [
        row if row.metric != "accuracy" else type(row)(**{**vars(row), "p50_ms": 2.0 + i, "speedup": 3.0})
        for i, row in enumerate(ledger(line, measure=False))
    ]
    html, _ = report(runs, line, rows=rows)
    assert html.count("classify: accuracy against") == 2
    assert "model 4: 91 at 5" in html  # said to those who do not see it


@pytest.mark.slow
def test_the_same_runs_give_the_same_bytes(runs):
    line = [*runs.line(), runs.make("c", result={"metric": "m", "value": 1.0}, metrics=CURVES)]
    first, _ = report(runs, line)
    assert report(runs, line)[0] == first


def test_studies_with_and_without_a_run_around_them(runs):
    entries = [
        compare("pretrained against <scratch>", task="tag", metric="f1", a=[0.8, 0.81], b=[0.9, 0.905]),
        compare("with against without", task="tag", metric="f1", a=[0.8, 0.81], b=[0.8, 0.812]),
    ]
    folder = runs.folder / "study"
    folder.mkdir()
    (folder / "study.json").write_text(json.dumps(entries))
    html, page = report(runs, [*runs.line(), folder], rows=ledger(runs.folder.glob("teacher"), measure=False))
    text = " ".join(page.text)
    assert "pretrained against <scratch>" in text
    assert "80.50 ± 0.71" in text
    assert "+9.75 [+6.57, +12.93]" in text
    assert html.count("excludes zero") == 1
    assert html.count("contains zero") == 1
    write_report([folder / "study.json"], runs.folder / "alone.html")
    assert "Runs</h2>" not in (runs.folder / "alone.html").read_text(encoding="utf-8")


@pytest.mark.parametrize("content", ["{", "[1]", '[{"comparison": "x"}]', "7"])
def test_a_damaged_study_is_named(runs, content):
    path = runs.folder / "study.json"
    path.write_text(content)
    with pytest.raises(DamagedError, match=r"study\.json"):
        write_report([path], runs.folder / "report.html")


def test_nothing_to_report_and_no_run(runs):
    with pytest.raises(RunError, match="no runs"):
        write_report([], runs.folder / "report.html")
    with pytest.raises(RunError, match="not a run folder"):
        write_report([runs.folder], runs.folder / "report.html")


def test_a_run_without_figures_has_its_place(runs):
    corpus = runs.make("corpus", result={"documents": 1234, "removed": {"too short": 5}}, model=False)
    write_report([corpus], runs.folder / "report.html")
    text = " ".join(Page((runs.folder / "report.html").read_text(encoding="utf-8")).text)
    assert "1,234" in text
    assert "removed.too short" in text
    assert "Ledger" not in text


def test_panels_gather_losses_and_scores():
    found = {panel.title: panel.series for panel in panels(CURVES)}
    assert list(found) == ["loss", "scores", "learning rate"]
    assert list(found["loss"]) == ["train/loss"]  # null is not drawn
    assert list(found["scores"]) == ["train/mlm_accuracy", "dev/accuracy"]
    assert found["scores"]["dev/accuracy"] == [(30.0, 0.9)]


def test_pictures_take_their_colours_from_the_page():
    drawn = curves(panels(CURVES)[0])
    assert not re.findall(r":\s*#[0-9a-f]{3,6}", drawn)
    assert "var(--series-1)" in drawn
    assert drawn.startswith('<svg role="img" aria-label="loss over steps. train/loss from 8 to 0.2667')


def test_one_model_or_many_at_one_place_can_be_drawn():
    for points in (1, 2, 9):
        same = [Point(label=str(n), x=1.0, y=50.0, kind=n) for n in range(points)]
        assert "<svg" in tradeoff(same, x_label="ms", y_label="准确率 f1")
    assert all("<svg" in marker_key(kind) for kind in range(len(MARKERS)))


def test_numbers_in_a_picture_do_not_cover_each_other():
    near = [Point(label=str(n), x=1.0 + 0.001 * n, y=50.0 + 0.01 * n, kind=n) for n in range(4)]
    far = Point(label="9", x=10.0, y=60.0, kind=0)
    drawn = tradeoff([*near, far], x_label="ms", y_label="f1")
    places = re.findall(
        r'transform="translate\(([\d.]+) ([\d.]+)\)">[^<]*\b[0-39]</text>', drawn
    ) or re.findall(r'font-weight: 700[^"]*" x="([\d.]+)" y="([\d.]+)"', drawn)
    assert len({(round(float(x) / 5), round(float(y) / 5)) for x, y in places}) == len(places) == 5


def test_short_names_leave_out_the_common_folder(tmp_path):
    paths = [tmp_path / "runs" / "a" / "teacher", tmp_path / "runs" / "b"]
    assert list(short_names(paths).values()) == ["a/teacher", "b"]
    assert short_names([]) == {}
