"""The session encoder: a causal Transformer from a shopper's history to a state in the space of the item vectors.

Every token is the sum of its item (see `tower`), its event, the time since the token before, and the search that led to
it, if one did; a learned token begins each history, so that the empty one has a state too. The blocks are transformers'
Llama.

Shapes: B histories, T tokens, N items, E width of text vectors, D width of the state.
"""

from collections.abc import Callable, Sequence
from typing import Any, Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import AutoConfig, AutoModel, LlamaModel
from transformers import initialization as init

from ..datasets.catalogue import Catalogue
from ..datasets.schema import N_EVENTS, Event
from .batches import PackedBatch
from .calibration import Calibration, Returns
from .folders import TrainedModel
from .memory import SessionMemory
from .outputs import ShopSessionOutput
from .query import QueryReader
from .readout import SHARE, Readout
from .settings import GAP_EDGES, ShopSessionConfig
from .stepping import Stepper
from .tower import ItemTower, fit_to_items, item_rows

_GAPS = len(GAP_EDGES) + 1  # kinds of gaps told apart


class ShopSessionModel(TrainedModel):
    """Causal Transformer over shop sessions; a `StateEncoder`.

    `forward` reads whole histories and is what pretraining runs. `encode` gives their last states. `step` appends one
    token to each of B shoppers at the cost of one token, and agrees with `encode` to 1e-5. A token attends to itself
    and the `window - 1` tokens before it, so states depend on the last `reach` tokens.
    """

    config_class = ShopSessionConfig
    config: ShopSessionConfig
    base_model_prefix = "model"
    main_input_name = "items"
    _no_split_modules = ["LlamaDecoderLayer"]  # noqa: RUF012
    _supports_sdpa = True

    def __init__(self, config: ShopSessionConfig) -> None:
        super().__init__(config)
        self.tower = ItemTower(config)
        self.reads_events = "event" in config.parts
        self.gaps = nn.Embedding(_GAPS, config.width) if "gap" in config.parts else None
        self.query_in = QueryReader(config) if config.query_dim else None
        self.query_out = QueryReader(config) if config.query_dim else None
        self.input_norm = nn.LayerNorm(config.width)
        self.dropout = nn.Dropout(config.dropout)
        self.backbone = LlamaModel(config.backbone())
        self.project = nn.Linear(config.width, config.width, bias=False)
        self.readout = Readout(config)
        self.heads = nn.Linear(config.width, N_EVENTS + 2 + _GAPS)  # next event, end, purchase later, next gap
        self.calibration = Calibration(config.n_items)
        self._fixed: tuple[Tensor, Tensor] | None = None
        self._stepping: tuple[Stepper, SessionMemory] | None = None
        self._compiled: Callable[..., Tensor] | None = None
        self.register_load_state_dict_post_hook(_forget)
        self.post_init()

    def _init_weights(self, module: nn.Module) -> None:
        super()._init_weights(module)
        if isinstance(module, ItemTower):
            for table in (module.categories, module.brands, module.ids):
                if table is not None and module.text is not None:
                    init.zeros_(table.weight)  # so that items begin as their text, and rare ones stay near it
                elif table is not None:
                    init.normal_(table.weight, std=self.config.initializer_range)
        if module is self.project:
            init.eye_(self.project.weight)  # a state begins near the items of its history: shoppers come back
        if isinstance(module, Readout):
            # What the blocks say has entries of unit size.
            init.constant_(module.share, SHARE * self.config.width**0.5)
        if isinstance(module, Calibration):
            for name, value in module.named_buffers():
                init.constant_(value, float(name == "sharpness"))
        if isinstance(module, QueryReader):
            for weight in module.parameters():
                init.zeros_(weight)

    @classmethod
    def for_items(
        cls,
        config: ShopSessionConfig,
        text: NDArray[np.float32],
        prices: NDArray[np.float32],
        seen: NDArray[np.bool_],
        *,
        categories: Sequence[str] = (),
        brands: Sequence[str] = (),
    ) -> Self:
        """An untrained model that knows these items.

        Args:
            config: `n_items`, `text_dim`, the vocabularies and the price scale are set from the items given.
            text: (N, E) vectors of the items' text; E may be 0, and an item is then known by its other parts alone.
            prices: (N + 1,) price by dense index, nan where unknown.
            seen: (N + 1,) whether an item occurs in the training sessions; the others get no embedding of their own.
            categories: (N,) the items' categories, empty where unknown.
            brands: (N,) the items' brands, empty where unknown.

        Raises:
            ValueError: nothing is known of an item by the parts that `config` names.
        """
        text = text if "text" in config.parts else text[:, :0]
        fit_to_items(config, text, prices[1:], categories, brands)
        model = cls(config)
        model.tower.describe(item_rows(config, text, prices[1:], seen[1:], categories, brands))
        return model

    @classmethod
    def for_catalogue(
        cls, config: ShopSessionConfig, catalogue: Catalogue, text: NDArray[np.float32], seen: NDArray[np.bool_]
    ) -> Self:
        """An untrained model that knows a catalogue; `text` and `seen` are those of `for_items`."""
        frame = catalogue.frame
        return cls.for_items(
            config,
            text,
            catalogue.known_prices,
            seen,
            categories=frame["category"].fillna("").tolist(),
            brands=frame["brand"].fillna("").tolist(),
        )

    @property
    def dim(self) -> int:
        """Width of states and item vectors."""
        return self.config.width

    @property
    def n_items(self) -> int:
        """Items known; dense indices run from 1 to this."""
        return self.config.n_items

    @property
    def reach(self) -> int:
        """How many of the latest tokens a state depends on; histories may be cut to these without changing it."""
        return (self.config.layers + 1) * (self.config.window - 1) + 1

    @property
    def item_vectors(self) -> Tensor:
        """(N + 1, D) float32, unit rows by dense index; row 0 is zero."""
        return self._prepared()[1]

    # What follows from the weights alone is worked out once in eval mode, and forgotten when they may change.

    def train(self, mode: bool = True) -> Self:
        """Switch between training and evaluation; item vectors are worked out anew afterwards."""
        self._fixed = self._stepping = None
        return super().train(mode)

    def _apply(self, fn: Any, recurse: bool = True) -> Self:
        self._fixed = self._stepping = None
        return super()._apply(fn, recurse)

    def _prepared(self) -> tuple[Tensor, Tensor]:
        """The items' input vectors, and their unit vectors."""
        if self._fixed is not None:
            return self._fixed
        # Kept across calls, so never as inference tensors, which later training could not use.
        with torch.inference_mode(False), torch.no_grad():
            table = F.pad(self.tower(torch.arange(1, self.n_items + 1, device=self.device)), (0, 0, 1, 0))
            fixed = table, F.normalize(table, dim=1)
        # An exporter runs this on stand-ins without values, which must not be kept.
        if not self.training and not torch.compiler.is_compiling():
            self._fixed = fixed
        return fixed

    def _ready(self) -> tuple[Stepper, SessionMemory]:
        """What steps, and the memory of one shopper who has done nothing."""
        if self._stepping is not None:
            return self._stepping
        with torch.inference_mode(False), torch.no_grad():
            buckets = 1 if self.gaps is None else _GAPS
            added = torch.zeros(N_EVENTS, buckets, self.dim, device=self.device)
            if self.reads_events:
                added += self.backbone.embed_tokens.weight[:, None]
            if self.gaps is not None:
                added += self.gaps.weight
            stepper = Stepper(self.backbone, self.readout, self.project, added)
            ready = stepper, self._first(stepper)
        if not self.training and not torch.compiler.is_compiling():
            self._stepping = ready
        return ready

    def _first(self, stepper: Stepper) -> SessionMemory:
        config = self.config
        ring = (config.layers, config.kv_heads, config.window, config.head_width)
        memory = SessionMemory.empty(config.width, ring, self.device)
        none = torch.zeros(1, dtype=torch.int64, device=self.device)
        memory.state = stepper.read(memory, self._tokens_begin(1)[:, 0], none, torch.zeros_like(memory.state))
        memory.length += 1
        return memory

    def _tokens_begin(self, rows: int) -> Tensor:
        """(rows, 1, D) the token that begins every history."""
        begin = self.backbone.embed_tokens.weight[Event.PADDING]
        return self.input_norm(begin).expand(rows, 1, -1)

    def _tokens(self, item_inputs: Tensor, events: Tensor, gaps: Tensor, queries: Tensor | None) -> Tensor:
        """(..., D) tokens as the blocks read them."""
        tokens = item_inputs
        if self.reads_events:
            tokens = tokens + self.backbone.embed_tokens(events)
        if self.gaps is not None:
            tokens = tokens + self.gaps(gap_buckets(gaps))
        if queries is not None:
            tokens = tokens + self._read(self.query_in, queries)
        return self.input_norm(tokens)

    def _read(self, reader: QueryReader | None, queries: Tensor) -> Tensor:
        if reader is None:
            raise ValueError("this encoder was trained without searches and cannot read any; leave queries out")
        return reader(queries, self.tower)

    def forward(
        self,
        items: Tensor,
        events: Tensor,
        gaps: Tensor,
        lengths: Tensor | None = None,
        queries: Tensor | None = None,
    ) -> ShopSessionOutput:
        """Read whole histories.

        Args:
            items: (B, T) int64 dense item indices, zeros after a row's end.
            events: (B, T) int64 codes of `Event`.
            gaps: (B, T) float32 seconds since the token before.
            lengths: (B,) tokens of each row; unused, for later tokens do not touch earlier states.
            queries: (B, T, E) text vectors of the searches that led to the tokens, zero where none did.
        """
        del lengths
        hidden, vectors, seen = self._hidden(items, events, gaps, queries)
        return self._output(hidden, vectors, seen)

    def read_packed(
        self, batch: PackedBatch, item_inputs: Tensor | None = None, queries: Tensor | None = None
    ) -> ShopSessionOutput:
        """Read sessions packed into rows, as training does; all that comes back is (R, L, ...), place by place.

        Args:
            batch: R rows of L places; what is said at padding means nothing.
            item_inputs: (R, L, D) the tower's vectors of the items, where the caller has them; for training on part of
                a large catalogue.
            queries: (R, L, E) text vectors of the searches that led to the tokens, zero where none did.
        """
        inputs = self._inputs(batch.items) if item_inputs is None else item_inputs
        tokens = self._tokens(inputs, batch.events, batch.gaps, queries)
        begins, seen = (batch.place == 0)[..., None], batch.in_sight(self.config.window)
        tokens = torch.where(begins, self._tokens_begin(1), tokens)
        # Padding sees padding, so that no row of weights is empty.
        return self._output(self._blocks(tokens, seen, batch.place), inputs.masked_fill(begins, 0), seen[:, 0])

    def _output(self, hidden: Tensor, vectors: Tensor, seen: Tensor) -> ShopSessionOutput:
        logits = self.heads(hidden)
        return ShopSessionOutput(
            states=self._states(hidden, self.readout(hidden, self.readout.marks(hidden), vectors, seen)),
            event_logits=logits[..., :N_EVENTS],
            end_logits=logits[..., N_EVENTS],
            purchase_logits=logits[..., N_EVENTS + 1],
            gap_logits=logits[..., N_EVENTS + 2 :],
            last_hidden_state=hidden,
        )

    def _states(self, hidden: Tensor, read: Tensor) -> Tensor:
        """(..., D) unit states, of what the blocks say and what the readout adds."""
        return F.normalize(self.project(hidden) + read, dim=-1)

    def _hidden(
        self, items: Tensor, events: Tensor, gaps: Tensor, queries: Tensor | None
    ) -> tuple[Tensor, Tensor, Tensor]:
        """What the blocks say after each token, the one that begins the history first.

        Returns:
            (B, T + 1, D) of the last block; (B, T + 1, D) vectors of the items, zero at the beginning; and (1, T + 1,
            T + 1) bool, which tokens each one attends to.
        """
        inputs = self._inputs(items)
        tokens = self._tokens(inputs, events, gaps, queries)
        tokens = torch.cat([self._tokens_begin(items.shape[0]), tokens], dim=1)
        position = torch.arange(tokens.shape[1], device=items.device)
        back = position[:, None] - position  # (T + 1, T + 1) how far back a key lies
        seen = (back >= 0) & (back < self.config.window)
        hidden = self._blocks(tokens, seen[None, None], position[None])
        return hidden, F.pad(inputs, (0, 0, 1, 0)), seen[None]

    def _blocks(self, tokens: Tensor, seen: Tensor, position: Tensor) -> Tensor:
        output = self.backbone(inputs_embeds=self.dropout(tokens), attention_mask=seen, position_ids=position)
        return self.dropout(output.last_hidden_state)

    def _inputs(self, items: Tensor) -> Tensor:
        if not self.training:
            return self._prepared()[0][items]
        used, place = torch.unique(items, return_inverse=True)
        return self.tower(used)[place]

    @torch.no_grad()
    def encode(
        self, items: Tensor, events: Tensor, gaps: Tensor, lengths: Tensor, queries: Tensor | None = None
    ) -> Tensor:
        """(B, D) unit states of whole histories, (B, T) each, zeros after `lengths`; exports to ONNX.

        `queries` are (B, T, E) text vectors of the searches that led to the tokens, zero where none did.
        """
        hidden, vectors, seen = self._hidden(items, events, gaps, queries)
        last = hidden[torch.arange(items.shape[0], device=items.device), lengths][:, None]
        return self._states(last, self.readout(last, self.readout.marks(hidden), vectors, seen[0][lengths][:, None]))[
            :, 0
        ]

    def towards(self, states: Tensor, queries: Tensor) -> Tensor:
        """(..., D) unit states of shoppers (..., D) who now search, (..., E); a search of zeros changes nothing."""
        return F.normalize(states + self._read(self.query_out, queries), dim=-1)

    @torch.no_grad()
    def scores(
        self,
        states: Tensor,
        queries: Tensor | None = None,
        *,
        items: Tensor | None = None,
        events: Tensor | None = None,
    ) -> Tensor:
        """How likely each item is next: logits over all items, set right by `calibration`.

        Args:
            states: (B, D), from `encode` or a memory.
            queries: (B, E) text vectors of what the shoppers search for now, zero for those who do not.
            items: (B, T) int64 what the shoppers did before, zeros at padding: whether they come back to an item is
                told better with it. Left out, all items are treated alike.
            events: (B, T) int64 codes of `Event`; with `items`.

        Returns:
            (B, N + 1), -inf for index 0.

        Raises:
            ValueError: `queries` are given, and the encoder was trained without any; or `items` without `events`.
        """
        if (items is None) != (events is None):
            raise ValueError("histories are told by items and events together; one of them is missing")
        states = states if queries is None else self.towards(states, queries)
        returns = None if items is None or events is None else Returns.of(items, events)
        return self.calibration(self.nearness(states), returns)

    def nearness(self, states: Tensor, vectors: Tensor | None = None) -> Tensor:
        """(B, N + 1) logits of pretraining, -inf for index 0: cosines between (B, D) states and the items.

        `vectors` are (N + 1, D) unit vectors of the items, `item_vectors` when None.
        """
        logits = states @ (self.item_vectors if vectors is None else vectors).T / self.config.item_temperature
        logits[:, 0] = -torch.inf
        return logits

    @torch.no_grad()
    def start(self, rows: int) -> SessionMemory:
        """Memory of `rows` shoppers who have done nothing yet."""
        return self._ready()[1].repeat(rows)

    @torch.no_grad()
    def step(
        self,
        memory: SessionMemory,
        items: Tensor,
        events: Tensor,
        gaps: Tensor,
        queries: Tensor | None = None,
    ) -> SessionMemory:
        """Append one token to each row, in place; a row whose item is 0 is left exactly as it was.

        Args:
            memory: of B shoppers; used up, use what is returned.
            items: (B,) int64 dense item index.
            events: (B,) int64 codes of `Event`.
            gaps: (B,) float32 seconds since the token before.
            queries: (B, E) text vectors of the searches that led to the tokens, zero where none did.
        """
        active = items > 0
        advance = self._compiled or self._advance
        state = advance(self._ready()[0], self._prepared()[0], memory, items, events, gaps, queries)
        # A new tensor, so that observations handed out earlier keep their values.
        memory.state = state if _all(active) else torch.where(active[:, None], state, memory.state)
        memory.length = memory.length + active
        return memory

    def compile_step(self) -> Self:
        """Compile `step` for the sizes of batches that it meets from now on; the first two of them take a while.

        Steps then give what they gave before, to 1e-5. How much faster they are depends on the machine: measure.
        """
        self._compiled = torch.compile(self._advance)
        return self

    def _advance(
        self,
        stepper: Stepper,
        table: Tensor,
        memory: SessionMemory,
        items: Tensor,
        events: Tensor,
        gaps: Tensor,
        queries: Tensor | None,
    ) -> Tensor:
        """(B, D) the states after one more token of each row; what it says of a row without one means nothing."""
        tokens = table.index_select(0, items) + stepper.when(events, gaps)
        if queries is not None:
            tokens += self._read(self.query_in, queries)
        return stepper.read(memory, self.input_norm(tokens), items, table)


def gap_buckets(gaps: Tensor) -> Tensor:
    """(...) int64 number of edges of `GAP_EDGES` that each gap (seconds) has reached, 0..len(GAP_EDGES)."""
    return (gaps[..., None] >= torch.tensor(GAP_EDGES, device=gaps.device)).sum(-1)


def _all(active: Tensor) -> bool:
    """Whether all rows are known to be active: asked where the answer costs no waiting."""
    return active.device.type == "cpu" and bool(active.all())


def _forget(module: nn.Module, *_: object) -> None:
    """Weights were loaded: what was worked out from the old ones no longer holds."""
    if isinstance(module, ShopSessionModel):
        module.train(module.training)


AutoConfig.register(ShopSessionConfig.model_type, ShopSessionConfig, exist_ok=True)
AutoModel.register(ShopSessionConfig, ShopSessionModel, exist_ok=True)
