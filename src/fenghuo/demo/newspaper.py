"""People's Daily, January 1998, as `199801.txt` has it: paragraphs of `word/tag`, to text and entities.

This copy of the corpus has lost three things, and nothing here pretends otherwise: the identifiers of its
lines (so articles are guessed from titles), the brackets round compound names (`[中央 电视台]nt`: only
organisations that are one word are marked, and a long place name is several neighbouring entities), and blank
lines. What is an entity:

    PER  nr: a surname and the given name after it are one person (`_persons`); a surname alone (江主席) and a
         foreign name are persons too
    LOC  ns, each word for itself
    ORG  nt, each word for itself
    O    everything else, other proper nouns (nz) and abbreviations (j) included
"""

from __future__ import annotations

import random
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache

from fenghuo.demo.overlap import can_be_held_out, found_within, key
from fenghuo.demo.reviews import narrow
from fenghuo.errors import DataError

BLOCK_PARAGRAPHS = 100
"""Articles are split in blocks of neighbours of about this size: a wrongly guessed title then puts two halves
of one article apart at the edge of a block at most, and stories told over a page stay together."""

_ENTITY = {"ns": "LOC", "nt": "ORG"}
_LONG_SURNAME = re.compile(
    "欧阳|诸葛|司马|上官|令狐|南宫|东方|皇甫|尉迟|公孙|夏侯|慕容|司徒|端木|独孤|宇文|长孙|钟离|闻人|东郭|澹台|呼延"
)
_TITLE_CHARACTERS = 40
_PICTURE = re.compile(r".（附?图片[^）]*）$")
_SENTENCE = re.compile(r"[^。！？]*[。！？]+[”’）』」》]*|[^。！？]+")


@dataclass(frozen=True, slots=True)
class Tagged:
    """A text with one tag a character: O, or B- and I- of PER, LOC, ORG."""

    text: str
    tags: tuple[str, ...]

    def __post_init__(self) -> None:
        if len(self.text) != len(self.tags):
            raise ValueError(f"{len(self.tags)} tags for {len(self.text)} characters")

    def __getitem__(self, span: slice) -> Tagged:
        return Tagged(self.text[span], self.tags[span])


Article = list[Tagged]


@dataclass(frozen=True, kw_only=True)
class NewspaperSplit:
    """Sentences to learn and to be asked, and the articles a model may read beforehand."""

    train: list[Tagged]
    dev: list[Tagged]
    test: list[Tagged]
    articles: list[Article]
    """Those of the training blocks, whole."""
    removed: dict[str, int]


def read_paragraphs(lines: Iterable[str]) -> list[Tagged]:
    """One paragraph a line of `word/tag` parted by blanks; empty lines are left out.

    Raises:
        DataError: a word without a tag, with the number of its line.
    """
    paragraphs = []
    for number, line in enumerate(lines, start=1):
        words = []
        for item in line.split():
            word, slash, tag = item.rpartition("/")
            if not (word and slash and tag):
                raise DataError(f"199801.txt:{number}: '{item}' is not word/tag")
            words.append((narrow(word), tag))
        if words:
            paragraphs.append(_tagged(words))
    return paragraphs


def _tagged(words: Sequence[tuple[str, str]]) -> Tagged:
    tags: list[str] = []
    at = 0
    while at < len(words):
        word, tag = words[at]
        if tag == "nr":
            run = [word]
            while at + len(run) < len(words) and words[at + len(run)][1] == "nr":
                run.append(words[at + len(run)][0])
            for first, end in _persons(tuple(run)):
                tags += _mark(sum(map(len, run[first:end])), "PER")
            at += len(run)
        else:
            tags += _mark(len(word), _ENTITY.get(tag))
            at += 1
    return Tagged("".join(word for word, _ in words), tuple(tags))


def _mark(characters: int, label: str | None) -> list[str]:
    if label is None:
        return ["O"] * characters
    return [f"B-{label}"] + [f"I-{label}"] * (characters - 1)


@cache
def _persons(names: tuple[str, ...]) -> tuple[tuple[int, int], ...]:
    """Cut neighbouring nr words into persons: spans (first, last + 1) over `names`.

    Lists come without commas in headlines and credits (王 锦鹄 毛 磊), so pairs alone do not do: the cheapest
    cut of the whole run is taken. Surname + given name costs nothing, nor does a foreign name; a given name
    alone costs 2, a surname alone 3, two surnames + given name (a married woman's: 陈 方 安生) 1.
    """
    if not names:
        return ()
    best: tuple[int, tuple[tuple[int, int], ...]] | None = None
    for width, cost in _first_person(names):
        rest = _persons(names[width:])
        total = cost + _cost(names[width:])
        if best is None or total < best[0]:
            best = total, ((0, width), *((a + width, b + width) for a, b in rest))
    assert best is not None
    return best[1]


@cache
def _cost(names: tuple[str, ...]) -> int:
    return min((cost + _cost(names[width:]) for width, cost in _first_person(names)), default=0)


def _first_person(names: tuple[str, ...]) -> Iterator[tuple[int, int]]:
    """(words, cost) of every person the run may begin with; the likelier first, as ties go to the first."""
    if not names:
        return
    surname = len(names[0]) == 1 or _LONG_SURNAME.fullmatch(names[0]) is not None
    if surname and len(names) > 1 and _is_given(names[1]):
        yield 2, 0
    if len(names) > 2 and [len(name) for name in names[:3]] == [1, 1, 2]:
        yield 3, 1
    yield 1, {1: 3, 2: 2}.get(len(names[0]), 0)


def _is_given(name: str) -> bool:
    # The typesetter spelt out rare characters: 秦 惠（君音）.
    return len(name) <= 2 or any(mark in name for mark in "（〈")


def guess_articles(paragraphs: Sequence[Tagged]) -> list[Article]:
    """Cut at titles: short paragraphs that end without punctuation, the first of several in a row."""
    articles: list[Article] = []
    after_title = False
    for paragraph in paragraphs:
        title = _is_title(paragraph.text)
        if not articles or (title and not after_title):
            articles.append([])
        articles[-1].append(paragraph)
        after_title = title
    return articles


def _is_title(text: str) -> bool:
    if len(text) > _TITLE_CHARACTERS:
        return False
    return text[-1].isalnum() or bool(_PICTURE.search(text))


def sentences(paragraph: Tagged, *, longest: int) -> list[Tagged]:
    """Cut after 。！？ and the quotes that close them; what is longer than `longest` characters is cut again
    after the last ； or ， or 、 that fits, else where no entity is torn."""
    cut = []
    for match in _SENTENCE.finditer(paragraph.text):
        rest = paragraph[match.start() : match.end()]
        while len(rest.text) > longest:
            at = _place_to_cut(rest, longest)
            cut.append(rest[:at])
            rest = rest[at:]
        cut.append(rest)
    return cut


def _place_to_cut(sentence: Tagged, longest: int) -> int:
    for marks in ("；", "，", "、：—"):
        at = max(sentence.text.rfind(mark, 0, longest) for mark in marks) + 1
        if at > 0:
            return at
    whole = [at for at in range(1, longest + 1) if not sentence.tags[at].startswith("I-")]
    return whole[-1] if whole else longest


def split_newspaper(
    paragraphs: Sequence[Tagged],
    *,
    seed: int,
    dev_share: float,
    test_share: float,
    longest: int,
    also_read: Iterable[str] = (),
) -> NewspaperSplit:
    """Deal blocks of neighbouring articles out by `seed`, then cut them into distinct sentences.

    Args:
        dev_share, test_share: of the blocks.
        longest: characters of a sentence.
        also_read: other texts that models will be pretrained on.

    A held-out sentence that the training articles, `also_read` or (for dev) the test set contain is removed
    from the held-out side, and so is one too short to be looked for: nothing that is left was read before.
    """
    blocks = _blocks(guess_articles(paragraphs))
    order = list(range(len(blocks)))
    random.Random(f"newspaper {seed}").shuffle(order)
    tests, devs = round(test_share * len(blocks)), round(dev_share * len(blocks))
    if not (tests and devs and tests + devs < len(blocks)):
        raise DataError(f"{len(blocks)} blocks of articles are too few to split into train, dev and test")
    test_blocks, dev_blocks = order[:tests], order[tests : tests + devs]
    train_blocks = sorted(order[tests + devs :])

    articles = [article for number in train_blocks for article in blocks[number]]
    removed: Counter[str] = Counter()

    def cut(numbers: Iterable[int]) -> list[Tagged]:
        every = [
            sentence
            for number in sorted(numbers)
            for article in blocks[number]
            for paragraph in article
            for sentence in sentences(paragraph, longest=longest)
        ]
        first = {key(sentence.text): sentence for sentence in reversed(every)}
        removed["repeated"] += len(every) - len(first)
        return list(reversed(first.values()))

    read = [paragraph.text for article in articles for paragraph in article] + list(also_read)
    test = _unread(cut(test_blocks), read, removed)
    dev = _unread(cut(dev_blocks), [*read, *(sentence.text for sentence in test)], removed)
    return NewspaperSplit(
        train=cut(train_blocks), dev=dev, test=test, articles=articles, removed=dict(sorted(removed.items()))
    )


def _unread(held_out: Sequence[Tagged], read: Sequence[str], removed: Counter[str]) -> list[Tagged]:
    findable = [sentence for sentence in held_out if can_be_held_out(sentence.text)]
    known = found_within([sentence.text for sentence in findable], read)
    removed["held out but too short"] += len(held_out) - len(findable)
    removed["held out but read elsewhere"] += len(known)
    return [sentence for number, sentence in enumerate(findable) if number not in known]


def _blocks(articles: Sequence[Article]) -> list[list[Article]]:
    blocks: list[list[Article]] = []
    room = 0
    for article in articles:
        if room <= 0:
            blocks.append([])
            room = BLOCK_PARAGRAPHS
        blocks[-1].append(article)
        room -= len(article)
    return blocks


def count_entities(sentences_: Iterable[Tagged]) -> dict[str, int]:
    """Entities of each label."""
    return dict(sorted(Counter(tag[2:] for s in sentences_ for tag in s.tags if tag[0] == "B").items()))
