"""Released names → networks: values, name maps and citations. No `forward` lives here.

A new family is one card in a file of its own and one line in `FAMILIES`.
"""

from __future__ import annotations

from fenghuo.models.bert import BERT
from fenghuo.models.family import Family
from fenghuo.models.nezha import NEZHA

FAMILIES: dict[str, Family] = {
    "bert": BERT,
    "nezha": NEZHA,
}
