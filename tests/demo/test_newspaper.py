"""Tags → entities, articles and sentences, on lines written here."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fenghuo.demo.newspaper import (
    Tagged,
    count_entities,
    guess_articles,
    read_paragraphs,
    sentences,
    split_newspaper,
)
from fenghuo.errors import DataError

LABELS = ("PER", "LOC", "ORG")


def spans(tagged: Tagged) -> list[tuple[str, str]]:
    """(label, text) of every entity; fails where an I- does not go on from its own kind."""
    found: list[tuple[str, str]] = []
    before = "O"
    for character, tag in zip(tagged.text, tagged.tags, strict=True):
        if tag.startswith("B-"):
            found.append((tag[2:], character))
        elif tag.startswith("I-"):
            assert before in (f"B-{tag[2:]}", tag), f"{tag} after {before}"
            found[-1] = (found[-1][0], found[-1][1] + character)
        else:
            assert tag == "O"
        before = tag
    return found


def persons(line: str) -> list[str]:
    (paragraph,) = read_paragraphs([line])
    return [text for label, text in spans(paragraph) if label == "PER"]


@pytest.mark.parametrize(
    ("line", "wanted"),
    [
        ("主席/n  江/nr  泽民/nr  说/v", ["江泽民"]),
        ("记者/n  王/nr  锦鹄/nr  毛/nr  磊/nr", ["王锦鹄", "毛磊"]),
        ("李/nr  鹏/nr  乔/nr  石/nr  朱/nr  镕基/nr", ["李鹏", "乔石", "朱镕基"]),
        ("司长/n  陈/nr  方/nr  安生/nr  出任/v", ["陈方安生"]),
        ("贾/nr  永/nr  黄/nr  秋生/nr", ["贾永", "黄秋生"]),
        ("欧阳/nr  山尊/nr  、/w  欧阳/nr  海/nr", ["欧阳山尊", "欧阳海"]),
        ("克林顿/nr  、/w  柴可夫斯基/nr", ["克林顿", "柴可夫斯基"]),
        ("桑普拉斯/nr  威廉姆斯/nr", ["桑普拉斯", "威廉姆斯"]),
        ("江/nr  主席/n", ["江"]),
        ("祝/nr  有容/nr  让·梅泰·亚彭德/nr", ["祝有容", "让·梅泰·亚彭德"]),
        ("秦/nr  惠（君音）/nr  女士/n", ["秦惠（君音）"]),
        ("焦/nr  秋生/nr  银春/nr", ["焦秋生", "银春"]),
        ("雪村/nr  守仁/nr", ["雪村", "守仁"]),
    ],
)
def test_surname_and_given_name_are_one_person(line, wanted):
    assert persons(line) == wanted


def test_places_and_organisations_are_words_and_other_names_are_not_marked():
    (paragraph,) = read_paragraphs(["新华社/nt  北京/ns  石景山/ns  长征/nz  １２月/t  ３１日/t  电/n"])
    assert spans(paragraph) == [("ORG", "新华社"), ("LOC", "北京"), ("LOC", "石景山")]
    assert paragraph.text == "新华社北京石景山长征12月31日电"


def test_a_word_without_tag_is_named_with_its_line():
    with pytest.raises(DataError, match=r"199801\.txt:2: '没有'"):
        read_paragraphs(["好/a", "好/a  没有"])


def test_articles_begin_at_titles():
    lines = [
        "北京音乐会",
        "附题一行",
        "今晚，很好。",
        "结束了。",
        "挂灯迎新年（图片）",
        "元旦来临。",
        "又一题",
        "文。",
    ]
    articles = guess_articles([Tagged(line, ("O",) * len(line)) for line in lines])
    assert [[p.text for p in article] for article in articles] == [lines[:4], lines[4:6], lines[6:]]


@st.composite
def tagged_texts(draw):
    parts = draw(
        st.lists(
            st.tuples(
                st.text("的一是，；。！”、", min_size=1, max_size=9),
                st.sampled_from([None, *LABELS]),
            ),
            min_size=1,
            max_size=30,
        )
    )
    text, tags = "", []
    for part, label in parts:
        text += part
        tags += ["O"] * len(part) if label is None else [f"B-{label}"] + [f"I-{label}"] * (len(part) - 1)
    return Tagged(text, tuple(tags))


@given(tagged_texts(), st.integers(10, 40))
def test_sentences_are_the_paragraph_cut_and_never_too_long(paragraph, longest):
    cut = sentences(paragraph, longest=longest)
    assert "".join(sentence.text for sentence in cut) == paragraph.text
    assert tuple(tag for sentence in cut for tag in sentence.tags) == paragraph.tags
    assert all(0 < len(sentence.text) <= longest for sentence in cut)


def test_a_long_sentence_is_cut_at_a_comma_and_not_inside_a_name():
    text = "一二三四，五六七八九十甲乙"
    tags = ("O",) * 9 + ("B-PER", "I-PER", "I-PER", "O")
    cut = sentences(Tagged(text, tags), longest=6)
    assert [sentence.text for sentence in cut] == ["一二三四，", "五六七八", "九十甲乙"]


def newspaper(articles: int) -> list[Tagged]:
    made = []
    for number in range(articles):
        made.append(f"第{number}号文章的标题/n")
        made.append(
            f"记者/n  王/nr  {chr(0x4E00 + number)}/nr  报道第{number}号新闻/v  。/w"
            "  本报讯同样的一句话/n  。/w"
        )
        made += [f"在/p  北京/ns  第{number}篇文章的第{line}段/n  。/w" for line in range(8)]
    return read_paragraphs(made)


def split(paragraphs, **changes):
    settings = {"seed": 3, "dev_share": 0.2, "test_share": 0.2, "longest": 50} | changes
    return split_newspaper(paragraphs, **settings)


def test_no_article_stands_on_two_sides_and_no_held_out_sentence_was_read():
    parts = split(newspaper(200))
    text = {part: [s.text for s in getattr(parts, part)] for part in ("train", "dev", "test")}
    read = "".join(p.text for article in parts.articles for p in article)
    for part in ("dev", "test"):
        assert len(text[part]) > 100
        assert not [sentence for sentence in text[part] if sentence in read]
    assert not set(text["dev"]) & set(text["test"])
    assert all(len(set(sentences_)) == len(sentences_) for sentences_ in text.values())

    def articles(part):
        return {s.split("第")[1].split("篇")[0] for s in text[part] if "篇文章" in s}

    assert not articles("train") & articles("test")
    assert not articles("dev") & articles("test")
    assert len(articles("train") | articles("dev") | articles("test")) == 200


def test_sentences_read_elsewhere_are_not_asked():
    paragraphs = newspaper(200)
    asked = [sentence.text for sentence in split(paragraphs).test]
    without = split(paragraphs, also_read=[f"有人说：{asked[0]}是的"])
    assert [sentence.text for sentence in without.test] == asked[1:]


def test_the_split_follows_the_seed_alone():
    paragraphs = newspaper(200)
    assert split(paragraphs) == split(paragraphs)
    assert split(paragraphs).test != split(paragraphs, seed=4).test


def test_too_little_text_is_said():
    with pytest.raises(DataError, match="too few"):
        split(newspaper(3))


def test_entities_are_counted_by_label():
    assert count_entities(read_paragraphs(["江/nr  泽民/nr  在/p  北京/ns  上海/ns"])) == {"LOC": 2, "PER": 1}
