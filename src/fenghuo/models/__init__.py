"""Released names → networks: values, name maps and citations. No `forward` lives here.

A new family is one card in a file of its own and one line in `FAMILIES`.
"""

from __future__ import annotations

from fenghuo.models.albert import ALBERT
from fenghuo.models.albert_zh import ALBERT_ZH
from fenghuo.models.bert import BERT
from fenghuo.models.ernie import ERNIE
from fenghuo.models.ernie_thu import ERNIE_THU
from fenghuo.models.family import Family
from fenghuo.models.nezha import NEZHA
from fenghuo.models.roberta import ROBERTA
from fenghuo.models.tinybert import TINYBERT
from fenghuo.models.transfo_xl import TRANSFO_XL
from fenghuo.models.xlm import XLM

FAMILIES: dict[str, Family] = {
    card.name: card
    for card in (BERT, NEZHA, ROBERTA, ALBERT, ALBERT_ZH, ERNIE, XLM, TINYBERT, ERNIE_THU, TRANSFO_XL)
}
