"""The values that decide a network's shape, apart from the modules, so that reading them needs no torch."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Literal, get_args

Position = Literal["learned", "nezha", "xl", "none"]
Activation = Literal["gelu", "gelu_new", "relu"]
TaskHead = Literal["classify", "tag"]
Widen = Literal["sum", "words"]
Shared = Literal["block", "attention", "feed_forward"]
LayerType = Literal["sim", "mix", "norm"]


@dataclass(frozen=True, kw_only=True, slots=True)
class EncoderConfig:
    """Everything that decides an encoder's shape; nothing that decides how it is trained.

    One class serves every family in `models/`: a family differs by values, never by subclass.
    The three fields whose default is 0 are worked out from the others, so that readers see numbers.
    """

    vocab: int
    layers: int = 12
    heads: int = 12
    width: int = 768  # D, of the residual stream
    embed_width: int = 0  # E < D is ALBERT's factorized embedding (arXiv 1909.11942); 0 means D
    widen: Widen = (
        "sum"  # what is widened from E to D: the normalized sum of all vectors, or the words' alone
    )
    inner_width: int = 0  # of the feed-forward part; 0 means 4 D
    layer_groups: int = 0  # distinct sets of weights; 1 = ALBERT: all layers share one; 0 means `layers`
    shared: Shared = (
        "block"  # the part of a layer that groups share; of the other part each layer has its own
    )
    norm_first: bool = (
        False  # norms before attention and feed-forward, not after the sum (ALBERT-xxlarge of albert_zh)
    )
    position: Position = "learned"  # xl: distances to what stands before, and nothing after is heard
    relative_clip: int = 64  # R, in pieces: keys further off than this look alike; of xl 0 means no clip
    relative_shared: bool = False  # of xl: all layers share u and v (arXiv 1901.02860, untie_r off)
    memory: int = 0  # of xl: so many pieces of the texts before stay as keys; no weight depends on it
    same_length: bool = False  # of xl: each piece hears `memory` pieces, itself the last, and no more
    attention_bias: bool = True  # in the four linear maps of attention
    adaptive: bool = False  # words times sqrt(D), not normalized, and a softmax by clusters (Transformer-XL)
    cutoffs: tuple[int, ...] = ()  # of adaptive: first word of each further cluster; those past V cut nothing
    cutoff_divisor: int = 1  # of adaptive: each cluster's vectors are so much narrower than those before
    segments: int = 2
    tasks: int = 0  # > 0 adds ERNIE 2.0's task embedding (arXiv 1907.12412)
    languages: int = 0  # > 0 adds XLM's language embedding (arXiv 1901.07291)
    max_length: int = 512  # rows of the table of learned positions; no limit for others
    first_position: int = 0  # the row of a sequence's first piece: 2 in RoBERTa, whose row 1 is the padding's
    dropout: float = 0.1
    attention_dropout: float = 0.1
    dropout_inside: bool = False  # dropout also between the feed-forward maps and on the last layer's output
    activation: Activation = "gelu"  # gelu: by the error function; gelu_new: by tanh, as TF1 code has it
    mlm_transform: bool = True  # a dense layer and a norm before the tied table; XLM has neither
    pooled_relu: bool = False  # before the last layer of a classifier, as TinyBERT's code has it
    norm_eps: float = 1e-12
    initializer_range: float = 0.02
    entity_width: int = 0  # E of the entity stream of THU's ERNIE (arXiv 1905.07129); 0: there is none
    entity_heads: int = 4  # of the entities' self-attention
    layer_types: tuple[LayerType, ...] = ()  # with an entity stream: see entity.py; missing ones are sim

    def __post_init__(self) -> None:
        derived = {"embed_width": self.width, "inner_width": 4 * self.width, "layer_groups": self.layers}
        for name, value in derived.items():
            if getattr(self, name) == 0:
                object.__setattr__(self, name, value)
        for name in ("vocab", "layers", "heads", "width", "embed_width", "inner_width", "layer_groups",
                     "max_length", "cutoff_divisor"):  # fmt: skip
            if getattr(self, name) < 1:
                raise ValueError(f"{name} is {getattr(self, name)}; it must be at least 1")
        for name in ("segments", "tasks", "languages", "first_position", "memory", "relative_clip"):
            if getattr(self, name) < 0:
                raise ValueError(f"{name} is {getattr(self, name)}; it must not be negative")
        for name in ("dropout", "attention_dropout"):
            if not 0 <= getattr(self, name) < 1:
                raise ValueError(f"{name} is {getattr(self, name)}; it must be at least 0 and below 1")
        if self.width % self.heads:
            raise ValueError(f"width {self.width} is not a multiple of heads {self.heads}")
        if self.embed_width > self.width:
            raise ValueError(f"embed_width {self.embed_width} is wider than width {self.width}")
        if self.widen == "words" and self.embed_width == self.width:
            raise ValueError(
                f"words are widened to width {self.width}, which they have: embed_width must be less"
            )
        if self.shared != "block" and self.layer_groups == self.layers:
            raise ValueError(f"{self.shared} is shared by no layer: layer_groups is {self.layers} as layers")
        if self.layers % self.layer_groups:
            raise ValueError(f"layers {self.layers} is not a multiple of layer_groups {self.layer_groups}")
        if self.position == "nezha" and self.head_width % 2:
            raise ValueError(f"NEZHA's sines and cosines need an even head width, not {self.head_width}")
        if self.position == "nezha" and self.relative_clip < 1:
            raise ValueError("relative_clip is 0; NEZHA's must be at least 1")
        self._check_xl()
        self._check_adaptive()
        self._settle_layer_types()

    def _check_xl(self) -> None:
        if self.position == "xl" and self.width % 2:
            raise ValueError(f"the sines and cosines of position 'xl' need an even width, not {self.width}")
        for name in ("memory", "same_length", "relative_shared"):
            if getattr(self, name) and self.position != "xl":
                raise ValueError(
                    f"{name} is {getattr(self, name)}; it needs position 'xl', not '{self.position}'"
                )
        if self.same_length and not self.memory:
            raise ValueError("same_length without memory: a piece would hear nothing")

    def _check_adaptive(self) -> None:
        ends = tuple(self.cutoffs)
        if not self.adaptive and (ends or self.cutoff_divisor != 1):
            raise ValueError("cutoffs and cutoff_divisor need adaptive words")
        if any(low >= high for low, high in zip((0, *ends), ends, strict=False)):
            raise ValueError(f"cutoffs are {list(ends)}; each must be above the one before, and above 0")
        object.__setattr__(self, "cutoffs", tuple(end for end in ends if end < self.vocab))
        if self.adaptive and self.embed_width != self.width:
            raise ValueError(
                f"adaptive words bring their own maps to width {self.width}: leave embed_width at 0"
            )
        if self.width // self.cutoff_divisor ** len(self.cutoffs) < 1:
            raise ValueError(
                f"cutoff_divisor {self.cutoff_divisor} leaves the last of {len(self.cutoffs) + 1} clusters no width"
            )

    def _settle_layer_types(self) -> None:
        """Give each layer its type, and refuse types that are not to be had."""
        if self.entity_width < 1:
            if self.entity_width < 0 or self.layer_types:
                raise ValueError(f"entity_width is {self.entity_width}; layer_types need at least 1")
            return
        types = (*self.layer_types, *["sim"] * (self.layers - len(self.layer_types)))
        object.__setattr__(self, "layer_types", types)
        if len(types) > self.layers:
            raise ValueError(f"layer_types has {len(types)} layers, the model {self.layers}")
        for layer, name in enumerate(types):
            if name not in get_args(LayerType):
                known = ", ".join(get_args(LayerType))
                raise ValueError(f"layer_types is '{name}' in layer {layer}\n  known: {known}")
        if self.entity_heads < 1 or self.entity_width % self.entity_heads:
            raise ValueError(
                f"entity_width {self.entity_width} is not a multiple of entity_heads {self.entity_heads}"
            )
        if (self.layer_groups < self.layers or self.norm_first) and set(types) != {"sim"}:
            raise ValueError("layers that join entities neither share weights nor have their norms first")

    def unlike(self, other: EncoderConfig) -> list[str]:
        """Names of the values in which two configs differ, those without effect left out."""
        idle = set() if {"nezha", "xl"} & {self.position, other.position} else {"relative_clip"}
        names = [f.name for f in fields(self) if f.name not in idle]
        return [name for name in names if getattr(self, name) != getattr(other, name)]

    @property
    def attention_groups(self) -> int:
        """Distinct attention parts of layers."""
        return self.layers if self.shared == "feed_forward" else self.layer_groups

    @property
    def feed_groups(self) -> int:
        """Distinct feed-forward parts of layers."""
        return self.layers if self.shared == "attention" else self.layer_groups

    @property
    def head_width(self) -> int:
        """N, of one attention head."""
        return self.width // self.heads


@dataclass(frozen=True, kw_only=True, slots=True)
class HeadsConfig:
    """Which heads stand on the encoder. Absent heads have no weights."""

    pooler: bool = True
    mlm: bool = False
    pair: bool = False  # NSP or SOP: two logits a sequence
    span_boundary: bool = False  # SBO: a hidden span's pieces from those beside it
    entity: bool = False  # dEA: which of some candidate entities a piece names
    task: TaskHead | None = None
    outputs: int = 0  # classes or tags of the task head
    dropout: float | None = None  # before the task head's last layer; None: the encoder's

    def __post_init__(self) -> None:
        if self.task is not None and self.outputs < 1:
            raise ValueError(f"a {self.task} head needs outputs >= 1, not {self.outputs}")
        if self.task is None and self.outputs:
            raise ValueError("outputs without a task head")
        if not self.pooler and self.pair:
            raise ValueError("a pair head reads the pooler, which is absent")
