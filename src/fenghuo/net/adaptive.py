"""Words in clusters by how frequent they are: rare ones have narrow vectors, and a softmax of their own."""

# Shapes: M asked rows, D width, V vocabulary, C clusters, E_c width of cluster c's vectors, V_c its words.
from __future__ import annotations

from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fenghuo.net.config import EncoderConfig


class AdaptiveWords(nn.Module):
    """The word table, cut into clusters (adaptive input, arXiv 1809.10853), times the root of D.

    Words are numbered from the most frequent one on. Cluster c has vectors of D // divisor^c channels and a map to D.
    With divisor 1 there is one table and no map, and the clusters matter to the softmax alone.

    Source: `AdaptiveEmbedding` of Transformer-XL's PyTorch code (kimiyoung/transformer-xl).
    """

    def __init__(self, config: EncoderConfig) -> None:
        super().__init__()
        self.scale = config.width**0.5
        self.num_embeddings = config.vocab
        self.spans = list(pairwise((0, *config.cutoffs, config.vocab)))
        self.maps = nn.ModuleList()
        if config.cutoff_divisor == 1:
            self.tables = nn.ModuleList([nn.Embedding(config.vocab, config.width)])
            return
        widths = [config.width // config.cutoff_divisor**c for c in range(len(self.spans))]
        self.tables = nn.ModuleList(
            nn.Embedding(high - low, width) for (low, high), width in zip(self.spans, widths, strict=True)
        )
        self.maps.extend(nn.Linear(width, config.width, bias=False) for width in widths)

    def cluster(self, number: int) -> tuple[Tensor, Tensor | None]:
        """((V_c, E_c) vectors, (D, E_c) map or None) of a cluster."""
        low, high = self.spans[number]
        if not len(self.maps):
            return _weight(self.tables[0])[low:high], None
        return _weight(self.tables[number]), _weight(self.maps[number])

    def forward(self, ids: Tensor) -> Tensor:
        """(…) ids below V → (…, D)."""
        if not len(self.maps):
            vectors: Tensor = self.tables[0](ids) * self.scale
            return vectors
        flat, parts, places = ids.flatten(), [], []
        for (low, high), table, widen in zip(self.spans, self.tables, self.maps, strict=True):
            place = ((flat >= low) & (flat < high)).nonzero().squeeze(1)
            parts.append(widen(table(flat[place] - low)))
            places.append(place)
        vectors = torch.cat(parts).index_select(0, torch.cat(places).argsort()) * self.scale
        return vectors.view(*ids.shape, vectors.shape[1])


class ClusterBias(nn.Module):
    """What the softmax adds to each word of a table."""

    def __init__(self, words: int) -> None:
        super().__init__()
        self.bias = nn.Parameter(torch.zeros(words))


class AdaptiveSoftmax(nn.Module):
    """Which word comes? First one of the frequent words or a cluster of rarer ones, then a word of that cluster
    (adaptive softmax, arXiv 1609.04309), with the vectors of the adaptive input.

    The maps of the rarer clusters are the input's too; the frequent words have one of their own (`tie_projs` of the
    released models). Without cutoffs it is a plain softmax over the tied table.

    Columns of the first choice are the frequent words, then the clusters from the most frequent to the rarest, as in
    transformers, in TensorFlow's code and in `torch.nn.AdaptiveLogSoftmaxWithLoss`. Files of Transformer-XL's PyTorch
    code have the clusters the other way round: with two or more of them, flip the rows of `cluster_weight` and
    `cluster_bias` before reading such a file as another one's.
    """

    def __init__(self, config: EncoderConfig, words: AdaptiveWords) -> None:
        super().__init__()
        self._tied = (words,)  # in a tuple, so that its tables are not registered a second time
        self.vocab, self.spans = config.vocab, words.spans
        self.biases = nn.ModuleList(ClusterBias(_weight(table).shape[0]) for table in words.tables)
        self.map = nn.Linear(config.width, config.width, bias=False) if len(words.maps) else None
        self.clusters = nn.Linear(config.width, len(self.spans) - 1) if len(self.spans) > 1 else None

    def forward(self, hidden_MD: Tensor) -> Tensor:
        """The same as `log_prob`: log-probabilities are logits that are normalized already."""
        return self.log_prob(hidden_MD)

    def log_prob(self, hidden_MD: Tensor) -> Tensor:
        """(…, D) → (…, V) log-probabilities, in float32 or better. Costs as much as a plain softmax does."""
        first = self._first(hidden_MD)
        frequent = self.spans[0][1]
        parts = [first[..., :frequent]]
        for number in range(1, len(self.spans)):
            chosen = first[..., frequent + number - 1, None]
            parts.append(chosen + self._within(number, hidden_MD))
        return torch.cat(parts, dim=-1)

    def choice(self, hidden_MD: Tensor, target_M: Tensor) -> tuple[Tensor, Tensor]:
        """(M, D), (M,) the right words → ((M,) negative log-likelihoods in nats, (M,) bool of right answers)."""
        log_prob_MV = self.log_prob(hidden_MD)
        of_target_M = log_prob_MV.gather(1, target_M[:, None]).squeeze(1)
        return -of_target_M, log_prob_MV.argmax(-1) == target_M

    def nll(self, hidden_MD: Tensor, target_M: Tensor) -> Tensor:
        """Negative log-likelihood of one word a row; a cluster is computed for the rows whose word is in it.

        Args:
            hidden_MD: (M, D).
            target_M: (M,) ids below V.

        Returns:
            (M,) in nats, in the rows' order (the released code gives them sorted by cluster).

        Raises:
            ValueError: shapes that do not fit, a word outside the vocabulary.
        """
        if hidden_MD.dim() != 2 or target_M.shape != hidden_MD.shape[:1]:
            raise ValueError(f"targets are {tuple(target_M.shape)} for hidden {tuple(hidden_MD.shape)}")
        if target_M.device.type == "cpu" and target_M.numel():  # on a GPU the comparison would wait for it
            low, high = (int(x) for x in torch.aminmax(target_M))
            if low < 0 or high >= self.vocab:
                raise ValueError(f"targets run from {low} to {high}, the vocabulary has {self.vocab} words")
        first = self._first(hidden_MD)
        frequent = self.spans[0][1]
        column_M, tails, places = target_M, [], []
        for number, (start, end) in enumerate(self.spans[1:], start=1):
            here_M = (target_M >= start) & (target_M < end)
            column_M = column_M.masked_fill(here_M, frequent + number - 1)
            place = here_M.nonzero().squeeze(1)
            within = self._within(number, hidden_MD[place])
            tails.append(within.gather(1, target_M[place, None] - start).squeeze(1))
            places.append(place)
        likely = first.gather(1, column_M[:, None]).squeeze(1)
        if tails:
            likely = likely.index_add(0, torch.cat(places), torch.cat(tails))
        return -likely

    def _first(self, hidden_MD: Tensor) -> Tensor:
        """(…, V_0 + C - 1) log-probabilities of the frequent words and of the rarer clusters."""
        vectors, _ = self._tied[0].cluster(0)
        x = hidden_MD if self.map is None else hidden_MD @ self.map.weight
        logits = F.linear(x, vectors, self._bias(0))
        if self.clusters is not None:
            logits = torch.cat([logits, self.clusters(x)], dim=-1)
        return logits.to(torch.promote_types(logits.dtype, torch.float32)).log_softmax(-1)

    def _within(self, number: int, hidden_MD: Tensor) -> Tensor:
        """(…, V_c) log-probabilities of a cluster's words, given the cluster."""
        vectors, widen = self._tied[0].cluster(number)
        x = hidden_MD if widen is None else hidden_MD @ widen
        logits = F.linear(x, vectors, self._bias(number))
        return logits.to(torch.promote_types(logits.dtype, torch.float32)).log_softmax(-1)

    def _bias(self, number: int) -> Tensor:
        if len(self.biases) > 1:
            return _bias(self.biases[number])
        low, high = self.spans[number]
        return _bias(self.biases[0])[low:high]


def _weight(module: nn.Module) -> Tensor:
    assert isinstance(module, nn.Embedding | nn.Linear)
    return module.weight


def _bias(module: nn.Module) -> Tensor:
    assert isinstance(module, ClusterBias)
    return module.bias
