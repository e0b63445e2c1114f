"""Settings of the session encoder: of the model, kept beside its weights, and of its pretraining."""

import math
from dataclasses import dataclass, field
from typing import Any, Literal

from transformers import LlamaConfig, PreTrainedConfig

from ..datasets.schema import N_EVENTS

GAP_EDGES = tuple(2.0**power for power in range(20))  # seconds: 1, 2, 4, ... 6 days; each gap falls between two
PARTS = ("text", "id", "category", "brand", "price", "event", "gap", "query")
"""What a token can be made of; the first five tell of its item."""
STANDARD_PARTS = tuple(part for part in PARTS if part != "gap")
"""What it is made of unless said otherwise. Gaps have not helped to foresee the next item in any log tried; the event
has not either, but an agent must see whether its last slate was clicked."""


class ShopSessionConfig(PreTrainedConfig):
    """Settings of a `ShopSessionModel`; `trained` is set once pretraining has come to its end."""

    model_type = "slatewise_session"
    attribute_map = {"hidden_size": "width", "num_hidden_layers": "layers", "num_attention_heads": "heads"}  # noqa: RUF012

    n_items: int = 1
    text_dim: int = 384
    query_dim: int = 0  # width of the text vectors of searches; 0 where there are none
    width: int = 64
    layers: int = 2
    heads: int = 4
    kv_heads: int = 1
    feed_forward: int = 128
    window: int = 50
    dropout: float = 0.2
    id_dropout: float = 0.2
    item_temperature: float = 0.07  # not `temperature`, which transformers keeps for text generation
    initializer_range: float = 0.05
    parts: list[str] = field(default_factory=lambda: list(STANDARD_PARTS))
    categories: list[str] = field(default_factory=list)  # those that have an embedding, in the order of its rows from 1
    brands: list[str] = field(default_factory=list)
    price_mean: float = 0.0
    price_std: float = 1.0
    trained: bool = False
    learnt_from: list[str] = field(default_factory=list)  # a sketch of the sessions, see `learnt_from`; empty: unknown

    @property
    def head_width(self) -> int:
        """Width of an attention head."""
        return self.width // self.heads

    def backbone(self) -> LlamaConfig:
        """Settings of the Llama blocks; their vocabulary is the event codes, 0 the token that begins a history."""
        config = LlamaConfig(
            vocab_size=N_EVENTS,
            hidden_size=self.width,
            intermediate_size=self.feed_forward,
            num_hidden_layers=self.layers,
            num_attention_heads=self.heads,
            num_key_value_heads=self.kv_heads,
            attention_dropout=self.dropout,
            initializer_range=self.initializer_range,
            use_cache=False,
            bos_token_id=0,
            eos_token_id=None,
        )
        config._attn_implementation = "sdpa"
        return config


def temperature_for(n_items: int) -> float:
    """The temperature at which a softmax over cosines can tell so many items apart, and no colder; 0.1 at most.

    Source: the fixed scale of AdaCos, sqrt(2) * log(C - 1) (Zhang et al., CVPR 2019).
    """
    return min(1 / (math.sqrt(2) * math.log(max(n_items - 1, 2))), 0.1)


def width_for(n_items: int) -> int:
    """Width of states that can tell so many items apart without costing a small shop more than it gains."""
    return 64 if n_items <= 2_000 else 128


def passes_for(tokens: int) -> int:
    """Passes over so many tokens: a large log says the same more often in one pass, and is sooner learnt by heart."""
    return min(max(round(5_000_000 / max(tokens, 1)), 5), 12)


@dataclass(frozen=True, kw_only=True)
class PretrainConfig:
    """Settings of a pretraining run."""

    width: int | None = None
    """Width of states and item vectors, a multiple of `heads`; `width_for` the items seen when None."""
    layers: int = 2
    heads: int = 4
    kv_heads: int = 1
    """Key and value heads that the query heads share; one keeps the memory of a step small (Shazeer 2019)."""
    feed_forward: int | None = None
    """Width inside a block; twice the width when None."""
    window: int = 50
    """Tokens that a token attends to, itself included."""
    parts: tuple[str, ...] = STANDARD_PARTS
    """What a token is made of, of `PARTS`; to see what one is worth, leave it out, or put in the gap."""
    dropout: float = 0.3
    rival_dropout: float = 0.35
    """Share of the entries of item vectors left out where items are told apart (CORE, Hou et al. 2022)."""
    id_dropout: float = 0.2
    """Share of items that go without their own embedding in a batch, so that items never seen are at home too."""
    temperature: float | None = None
    """Of the softmax over the cosine between state and item; `temperature_for` the items seen when None."""
    epochs: int | None = None
    """Passes at most, over which the learning rate falls; fewer when the validation figure stops improving;
    `passes_for` the tokens when None."""
    patience: int = 3
    """Epochs without improvement before stopping."""
    cpu_seconds: float | None = None
    """Processor time that training may take. Where it is short, fewer steps are taken, and what comes out depends on
    the speed of the machine."""
    batch_tokens: int = 2_048
    """Tokens a batch, at most; fewer in a small log, so that a pass has enough steps (`training.batch_size`)."""
    accumulate: int = 1
    """Batches a step, whose gradients are added up; for steps of more tokens than fit in memory."""
    pack: int = 32
    """Tokens of a row, into which whole sessions are packed; a longer session has a row of the next multiple."""
    learning_rate: float = 2e-3
    id_rate: float | None = None
    """How many times faster the items' own embeddings learn than the rest; when None, 2 where items have no texts, and
    1 where they do: more overfits there."""
    neighbours: int = 12
    """Items that each item borrows from while training, those it shares most sessions with; 0 for none."""
    weight_decay: float = 0.05
    warm_up: float = 0.05
    """Share of all steps in which the learning rate rises; it then falls along a cosine."""
    half_life: float | None = 0.3
    """Share of the sessions after which an older one is learnt from half as often; all alike when None."""
    refresh: float = 0.5
    """Steps taken when all is done, as a share of those before, to learn from the sessions too that were kept for early
    stopping: they tell most of what is wanted now. 0 leaves them unlearnt."""
    refresh_rate: float = 0.5
    """Share of the learning rate that these steps begin with."""
    calibrate: bool = True
    """Whether scores are set right by the sessions kept for early stopping, before these are learnt from
    (see `calibration`)."""
    full_softmax_up_to: int = 8_192
    """Items seen up to which every one is a candidate at every step; beyond, candidates are sampled."""
    negatives: int = 8_192
    """Items sampled for a batch beside its own, beyond `full_softmax_up_to`."""
    first_weight: float = 0.1
    """Weight of foreseeing a session's first item, before anything is known of it, beside 1 for a later one."""
    event_weight: float = 0.2
    """Weight of the loss of the next event's type, beside 1 for the next item."""
    end_weight: float = 0.1
    """Weight of the loss of the session's end."""
    purchase_weight: float = 0.1
    """Weight of the loss of a purchase later in the session."""
    gap_weight: float = 0.1
    """Weight of the loss of the time until the next token, by powers of two of a second."""
    max_tokens: int = 200
    """Tokens of a session that are read; later ones are cut off."""
    validation_fraction: float = 0.1
    """Share of the sessions, the latest, kept for early stopping."""
    precision: Literal["auto", "float32", "bfloat16"] = "auto"
    """Of arithmetic while training; auto is bfloat16 on a GPU, float32 elsewhere. Weights stay float32."""
    compile: bool = False
    """Whether the blocks are compiled for training; faster where it runs long, after a minute of compiling."""
    seed: int = 0

    def __post_init__(self) -> None:
        width = self.width or 2 * self.heads
        if width % self.heads or self.heads % self.kv_heads or width // self.heads % 2:
            raise ValueError(
                f"width must be an even multiple of heads, and heads a multiple of kv_heads; got width={self.width}, "
                f"heads={self.heads}, kv_heads={self.kv_heads}"
            )
        for name in ("dropout", "rival_dropout", "id_dropout", "validation_fraction"):
            if not 0 <= getattr(self, name) < 1:
                raise ValueError(f"{name} must be in [0, 1), got {getattr(self, name)}")
        for name in ("layers", "window", "epochs", "patience", "batch_tokens", "accumulate", "negatives", "max_tokens"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise ValueError(f"{name} must be at least 1, got {getattr(self, name)}")
        strange = [part for part in self.parts if part not in PARTS]
        if strange or len(set(self.parts)) < len(self.parts):
            raise ValueError(f"parts are some of {', '.join(PARTS)}, each once; got {', '.join(self.parts)}")
        if self.precision not in ("auto", "float32", "bfloat16"):
            raise ValueError(f"precision must be auto, float32 or bfloat16, got {self.precision!r}")
        if self.neighbours < 0:
            raise ValueError(f"neighbours must be at least 0, got {self.neighbours}")
        if self.pack < 2:
            raise ValueError(f"pack must be at least 2, a session's beginning and a token, got {self.pack}")
        for name in ("first_weight", "refresh", "refresh_rate"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"{name} must be in [0, 1], got {getattr(self, name)}")
        for name in ("temperature", "learning_rate", "validation_fraction", "cpu_seconds", "half_life", "id_rate"):
            value = getattr(self, name)
            if value is not None and value <= 0:
                raise ValueError(f"{name} must be positive, got {value}")

    def model(self, *, n_seen: int, query_dim: int = 0) -> ShopSessionConfig:
        """Settings of the model; the catalogue's part is filled in with the catalogue.

        Args:
            n_seen: items that occur in the training sessions.
            query_dim: width of the text vectors of searches, 0 for a log without any.
        """
        names = ("layers", "heads", "kv_heads", "window", "dropout", "id_dropout")
        width = self.width or width_for(n_seen)
        same: dict[str, Any] = {name: getattr(self, name) for name in names}
        same |= {"width": width, "feed_forward": self.feed_forward or 2 * width}
        same |= {"parts": list(self.parts), "query_dim": query_dim if "query" in self.parts else 0}
        return ShopSessionConfig(**same, item_temperature=self.temperature or temperature_for(n_seen))
