"""All ways to cut many short words into pieces, at once: sums and maxima over them, in a fixed order of additions."""

# Shapes: W words, N nodes (a place before, between or after characters of a word), A arcs (a piece from node to node),
# P pieces.
from __future__ import annotations

from array import array
from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

    Floats = NDArray[np.float64]
    Ints = NDArray[np.integer]


class Lattice:
    """The arcs of some words.

    Args:
        words: of which each character is a piece.
        pieces: piece → its number.
        longest: characters of a piece at most.
        whole: the word itself counts as a way to cut it.
    """

    def __init__(
        self, words: Sequence[str], pieces: Mapping[str, int], *, longest: int, whole: bool = True
    ) -> None:
        lengths = np.fromiter(map(len, words), np.int64, len(words))
        self.first_W = np.concatenate([[0], np.cumsum(lengths + 1)])[:-1].astype(np.int64)
        self.last_W = self.first_W + lengths
        self.nodes = int((lengths + 1).sum())
        # Begin node, end node, end within the word, piece. A list of them takes nine times the room.
        found = array("i")
        for first, word in zip(self.first_W.tolist(), words, strict=True):
            size = len(word)
            for begin in range(size):
                for end in range(begin + 1, min(begin + longest, size) + 1):
                    piece = pieces.get(word[begin:end])
                    if piece is not None and (whole or end - begin < size):
                        found.extend((first + begin, first + end, end, piece))
        arcs = np.frombuffer(found, np.int32).reshape(-1, 4)
        # Arcs that end at a word's n-th place follow those that end at the place before: one step each.
        arcs = arcs[np.lexsort((arcs[:, 0], arcs[:, 1], arcs[:, 2]))]
        self.begin_A, self.end_A, self.piece_A = (arcs[:, i].copy() for i in (0, 1, 3))
        self._forward = _steps(arcs[:, 2], self.end_A)
        # Backwards the same, with the places from which arcs begin, the last ones first.
        place_A = arcs[:, 2] - (self.end_A - self.begin_A)
        self._turned = np.lexsort((self.end_A, self.begin_A, -place_A))
        self._backward = _steps(-place_A[self._turned], self.begin_A[self._turned])

    def best(self, scores_P: Floats) -> Floats:
        """(W,) of the best way; -inf where there is none."""
        score_A, best_N = scores_P[self.piece_A], self._start(self.first_W)
        for low, high, groups, nodes in self._forward:
            through = best_N[self.begin_A[low:high]] + score_A[low:high]
            best_N[nodes] = np.maximum.reduceat(through, groups)
        best_W: Floats = best_N[self.last_W]
        return best_W

    def expected(self, scores_P: Floats, count_W: Ints) -> Floats:
        """(P,) how often each piece is expected in words that occur `count_W` times: the E-step (Kudo 2018)."""
        score_A = scores_P[self.piece_A]
        from_N, to_N = self._start(self.first_W), self._start(self.last_W)
        for low, high, groups, nodes in self._forward:
            through = from_N[self.begin_A[low:high]] + score_A[low:high]
            from_N[nodes] = np.logaddexp.reduceat(through, groups)
        turned_end_A, turned_score_A = self.end_A[self._turned], score_A[self._turned]
        for low, high, groups, nodes in self._backward:
            through = to_N[turned_end_A[low:high]] + turned_score_A[low:high]
            to_N[nodes] = np.logaddexp.reduceat(through, groups)
        # Nodes lie word after word, so an arc's word is the first one that ends at its end or later.
        word_A = np.searchsorted(self.last_W, self.end_A)
        total_A = from_N[self.last_W[word_A]]
        share_A = np.exp(from_N[self.begin_A] + score_A + to_N[self.end_A] - total_A)
        weights_A = (share_A * count_W[word_A]).astype(np.float64)
        total_P: Floats = np.bincount(self.piece_A, weights_A, len(scores_P)).astype(np.float64)
        return total_P

    def without(self, dropped_P: NDArray[np.bool_]) -> None:
        """Forget the arcs of some pieces."""
        kept_A = ~dropped_P[self.piece_A]
        places = np.zeros(len(kept_A), np.int64)
        for number, (low, high, _, _) in enumerate(self._forward):
            places[low:high] = number
        turned = self._turned[kept_A[self._turned]]
        back = np.zeros(len(kept_A), np.int64)
        for number, (low, high, _, _) in enumerate(self._backward):
            back[self._turned[low:high]] = number
        renumbered = np.cumsum(kept_A) - 1
        self.begin_A, self.end_A, self.piece_A = (x[kept_A] for x in (self.begin_A, self.end_A, self.piece_A))
        self._forward = _steps(places[kept_A], self.end_A)
        self._turned = renumbered[turned]
        self._backward = _steps(back[turned], self.begin_A[self._turned])

    def _start(self, zero: Ints) -> Floats:
        values = np.full(self.nodes, -np.inf)
        values[zero] = 0.0
        return values


def _steps(place_A: Ints, node_A: Ints) -> list[tuple[int, int, Ints, Ints]]:
    """For each place in turn: from which arc to which, where the arcs of each node begin among them, and the nodes."""
    edges = np.flatnonzero(np.diff(place_A, prepend=place_A[:1] - 1)).tolist()
    steps: list[tuple[int, int, Ints, Ints]] = []
    for low, high in pairwise([*edges, len(place_A)]):
        nodes = node_A[low:high]
        groups = np.flatnonzero(np.diff(nodes, prepend=-1))
        steps.append((low, high, groups, nodes[groups]))
    return steps
