"""Pretraining of the session encoder on logged sessions: what comes next, and whether anything does.

Shapes: B sessions, T tokens, N items, C candidate items, D width, M predictions.
"""

import hashlib
import math
import shutil
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F
from torch.optim import AdamW

from ..datasets.artefact import building, is_finished
from ..datasets.log import ShopLog
from ..datasets.schema import EVENT_CODES
from ..datasets.tokens import Floats, Ints, Tokens
from ..errors import EvidenceError
from .batches import SessionBatch, epoch_order, session_batch
from .checkpoint import Checkpoints, Progress
from .neighbours import item_counts
from .quiet import quiet_transformers
from .session import ShopSessionConfig, ShopSessionModel, load_encoder
from .text import TextEncoder

Report = Callable[[int, int, str], None]
_FEWEST_SESSIONS = 20
_STEPS = 40  # an epoch has at least this many, unless batches were smaller than the next
_SMALLEST_BATCH = 16
_VALIDATION_CELLS = 32_000_000  # predictions times items held at once


@dataclass(frozen=True, kw_only=True)
class PretrainConfig:
    """Settings of a pretraining run."""

    width: int = 64
    """Width of states and item vectors; a multiple of `heads`."""
    layers: int = 2
    heads: int = 4
    kv_heads: int = 1
    """Key and value heads that the query heads share; one keeps the memory of a step small (Shazeer 2019)."""
    feed_forward: int = 128
    window: int = 50
    """Tokens that a token attends to, itself included."""
    dropout: float = 0.3
    id_dropout: float = 0.2
    """Share of items that go by text and price alone in a batch, so that items never seen are at home too."""
    temperature: float = 0.1
    """Of the softmax over the cosine between state and item."""
    epochs: int = 12
    """At most; fewer when the validation figure stops improving."""
    patience: int = 3
    """Epochs without improvement before stopping."""
    batch_size: int = 64
    """Sessions a batch, at most; smaller in a small log, so that an epoch has some forty steps."""
    learning_rate: float = 2e-3
    id_rate: float = 1.0
    """How many times faster the items' own embeddings learn than the rest; more overfits where text tells much."""
    weight_decay: float = 0.05
    warm_up: float = 0.05
    """Share of all steps in which the learning rate rises; it then falls along a cosine."""
    full_softmax_up_to: int = 20_000
    """Items seen up to which every one is a candidate at every step; beyond, candidates are sampled."""
    negatives: int = 2_048
    """Items sampled for a batch beside its own, beyond `full_softmax_up_to`."""
    event_weight: float = 0.2
    """Weight of the loss of the next event's type, beside 1 for the next item."""
    end_weight: float = 0.1
    """Weight of the loss of the session's end."""
    purchase_weight: float = 0.1
    """Weight of the loss of a purchase later in the session."""
    max_tokens: int = 200
    """Tokens of a session that are read; later ones are cut off."""
    validation_fraction: float = 0.1
    """Share of the sessions, the latest, kept for early stopping."""
    seed: int = 0

    def __post_init__(self) -> None:
        if self.width % self.heads or self.heads % self.kv_heads or self.width // self.heads % 2:
            raise ValueError(
                f"width must be an even multiple of heads, and heads a multiple of kv_heads; got width={self.width}, "
                f"heads={self.heads}, kv_heads={self.kv_heads}"
            )
        for name in ("dropout", "id_dropout", "validation_fraction"):
            if not 0 <= getattr(self, name) < 1:
                raise ValueError(f"{name} must be in [0, 1), got {getattr(self, name)}")
        for name in ("layers", "window", "epochs", "patience", "batch_size", "negatives", "max_tokens"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, got {getattr(self, name)}")
        if self.temperature <= 0 or self.learning_rate <= 0 or self.validation_fraction == 0:
            raise ValueError("temperature, learning_rate and validation_fraction must be positive")

    def model(self) -> ShopSessionConfig:
        """Settings of the model; the catalogue's part is filled in with the catalogue."""
        names = ("width", "layers", "heads", "kv_heads", "feed_forward", "window", "dropout", "id_dropout")
        return ShopSessionConfig(**{name: getattr(self, name) for name in names}, item_temperature=self.temperature)


def pretrain(
    log: ShopLog,
    out: Path,
    *,
    config: PretrainConfig | None = None,
    text: TextEncoder | NDArray[np.float32] | None = None,
    inputs: Mapping[str, str] | None = None,
    force: bool = False,
    device: str = "cpu",
    progress: Report | None = None,
) -> ShopSessionModel:
    """Train a session encoder on a log, and write it as an artefact of kind "encoder".

    The latest sessions are kept aside for early stopping. A run that was killed goes on from its last full epoch and
    ends with the same weights as one that was not. A finished one of the same settings and inputs is read back.

    Args:
        log: the sessions; those of shoppers or times the encoder must not have seen are taken out by the caller.
        out: folder of the artefact; `out.partial` while it is being built.
        config: settings; defaults when None.
        text: encoder of the item texts, or their vectors (N, E); all-MiniLM-L6-v2 when None.
        inputs: name -> id of the artefacts that `log` came from; a hash of its sessions when None.
        force: replace a finished artefact.
        device: where the training runs.
        progress: called with (steps done, steps at most, words).

    Returns:
        The trained encoder, in eval mode, on `device`.

    Raises:
        EvidenceError: the log has too few sessions, or no item that a shopper chose.
        ArtefactError: `out` holds something else, or other settings, and `force` is not set.
        ModelNotFoundError: the text model is not there.
    """
    config = config or PretrainConfig()
    if len(log) < _FEWEST_SESSIONS:
        raise EvidenceError(f"pretraining needs {_FEWEST_SESSIONS} sessions at least, the log has {len(log)}")
    if not item_counts(log.tokens, log.catalogue.n_items).any():
        raise EvidenceError(f"none of {len(log)} sessions has an item that the shopper chose")
    if text is None:
        text = TextEncoder()
    read = hashlib.sha256(text.tobytes()).hexdigest()[:16] if isinstance(text, np.ndarray) else text.fingerprint
    settings = {**asdict(config), "text": read}
    inputs = inputs or {"log": _content(log)}
    if not force and is_finished(out, "encoder", settings, inputs):
        return load_encoder(out, device=device)
    with building(out, "encoder", settings, inputs, force=force) as draft:
        vectors = text if isinstance(text, np.ndarray) else text.encode(log.catalogue.texts(), progress)
        run = _Run(log, vectors, config, device)
        checkpoints = Checkpoints(draft.folder)
        state = run.train(checkpoints, progress)
        checkpoints.load_best(state, run.model)
        run.model.config.trained = True
        with quiet_transformers():
            run.model.save_pretrained(draft.folder)
        draft.facts |= run.facts(state)
        shutil.rmtree(checkpoints.folder)
    return load_encoder(out, device=device)


class _Run:
    """A model, its optimizer and the two parts of the log; one training run."""

    def __init__(self, log: ShopLog, vectors: Floats, config: PretrainConfig, device: str) -> None:
        train, held_out = log.split_at(1 - config.validation_fraction)
        self.config, self.device = config, torch.device(device)
        self.train_tokens, self.held_out = train.tokens, held_out.tokens
        n_items = log.catalogue.n_items
        counts = item_counts(self.train_tokens, n_items)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(config.seed)
            model = ShopSessionModel.for_items(config.model(), vectors, log.catalogue.prices, counts > 0)
        self.model = model.to(self.device)  # pyright: ignore[reportArgumentType]
        self.candidates = torch.from_numpy(np.flatnonzero(counts)).to(self.device)
        self.chance = torch.from_numpy(counts / max(counts.sum(), 1)).to(self.device, torch.float32)
        self.optimizer = self._optimizer()
        self.batches = sum(1 for _ in self._order(np.random.default_rng([config.seed, 0])))

    def _optimizer(self) -> AdamW:
        own, still, rest = [], [], []
        for name, weight in self.model.named_parameters():
            (own if name == "tower.ids.weight" else rest if weight.ndim > 1 else still).append(weight)
        groups = [
            {
                "params": own,
                "scale": self.config.id_rate,
                "weight_decay": self.config.weight_decay / self.config.id_rate,
            },
            {"params": rest, "scale": 1.0, "weight_decay": self.config.weight_decay},
            {"params": still, "scale": 1.0, "weight_decay": 0.0},
        ]
        return AdamW(groups, lr=self.config.learning_rate, betas=(0.9, 0.98))

    def _order(self, rng: np.random.Generator) -> Iterator[Ints]:
        lengths = np.minimum(self.train_tokens.lengths, self.config.max_tokens)
        size = min(self.config.batch_size, max(len(lengths) // _STEPS, _SMALLEST_BATCH))
        return epoch_order(lengths, size, rng)

    def train(self, checkpoints: Checkpoints, report: Report | None) -> Progress:
        """All epochs that are left; each one leaves a checkpoint."""
        state = checkpoints.resume(self.model, self.optimizer)
        total = self.config.epochs * self.batches
        while len(state.epochs) < self.config.epochs and len(state.epochs) - 1 - state.best < self.config.patience:
            begun, epoch = time.perf_counter(), len(state.epochs)
            figures = self._epoch(epoch, total, report) | self._validate()
            state.epochs.append(figures)
            if state.best < 0 or figures["validation_loss"] < state.epochs[state.best]["validation_loss"]:
                state.best = epoch
            state.seconds += time.perf_counter() - begun
            checkpoints.save(state, self.model, self.optimizer)
        return state

    def _epoch(self, epoch: int, total: int, report: Report | None) -> dict[str, float]:
        """One pass. Its random numbers follow from the seed and the epoch alone, so that a resumed run repeats them."""
        self.model.train()
        rng = np.random.default_rng([self.config.seed, 1, epoch])
        losses = []
        with torch.random.fork_rng(devices=[self.device] if self.device.type == "cuda" else []):
            torch.manual_seed(int(rng.integers(2**62)))
            for number, sessions in enumerate(self._order(rng)):
                step = epoch * self.batches + number
                for group in self.optimizer.param_groups:
                    group["lr"] = group["scale"] * self.config.learning_rate * self._rate(step, total)
                batch = session_batch(self.train_tokens, sessions, self.config.max_tokens, self.device)
                loss = self._loss(batch, rng)
                self.optimizer.zero_grad(set_to_none=True)
                loss.backward()
                torch.nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
                self.optimizer.step()
                losses.append(loss.item())
                if report:
                    report(
                        step + 1, total, f"pretraining the session encoder, epoch {epoch + 1}, loss {loss.item():.3f}"
                    )
        return {"training_loss": float(np.mean(losses))}

    def _rate(self, step: int, total: int) -> float:
        rising = max(self.config.warm_up * total, 1)
        if step < rising:
            return (step + 1) / rising
        return 0.02 + 0.98 * 0.5 * (1 + math.cos(math.pi * min((step - rising) / max(total - rising, 1), 1)))

    def _loss(self, batch: SessionBatch, rng: np.random.Generator) -> Tensor:
        targets = batch.items[batch.chosen]  # (M,)
        candidates, correction = self._candidates(targets, rng)
        used = torch.unique(torch.cat([batch.items.flatten(), candidates]))
        table = self.model.tower(used)  # rows of the items in this batch and their rivals
        inputs = table[torch.searchsorted(used, batch.items)]
        output = self.model(batch.items, batch.events, batch.gaps, batch.lengths, item_inputs=inputs)
        rivals = F.normalize(table[torch.searchsorted(used, candidates)], dim=1)
        logits = output.states[:, :-1][batch.chosen] @ rivals.T / self.config.temperature - correction  # (M, C)
        place = torch.searchsorted(candidates, targets)
        item = F.cross_entropy(logits, place) if len(targets) else logits.sum()
        read = batch.held[:, 1:]  # position t is asked about token t, so the last position about none
        event = F.cross_entropy(output.event_logits[:, :-1][read], batch.events[read])
        known = batch.held & (batch.knows_end[:, None] | ~batch.ends)
        known[:, 0] = False  # a session has a token at least, so nothing is learnt from it not ending before
        end = F.binary_cross_entropy_with_logits(output.end_logits[known], batch.ends[known].float())
        buys = F.binary_cross_entropy_with_logits(output.purchase_logits[batch.held], batch.buys[batch.held].float())
        weights = self.config
        return item + weights.event_weight * event + weights.end_weight * end + weights.purchase_weight * buys

    def _candidates(self, targets: Tensor, rng: np.random.Generator) -> tuple[Tensor, Tensor]:
        """(C,) sorted items to tell apart, and (C,) what their logits are too high by.

        Beyond `full_softmax_up_to` these are the batch's own items and items drawn uniformly, each corrected by the
        logarithm of its chance to be there, which keeps the softmax over all items unbiased in the limit.

        Source: sampling of alternatives, McFadden 1978; Yi et al., RecSys 2019.
        """
        if len(self.candidates) <= self.config.full_softmax_up_to:
            return self.candidates, torch.zeros((), device=self.device)
        drawn = torch.from_numpy(rng.integers(0, len(self.candidates), self.config.negatives)).to(self.device)
        candidates = torch.unique(torch.cat([targets, self.candidates[drawn]]))
        by_target = len(targets) * torch.log1p(-self.chance[candidates].clamp(max=1 - 1e-6))
        by_draw = self.config.negatives * math.log1p(-1 / len(self.candidates))
        return candidates, torch.log(-torch.expm1(by_target + by_draw))

    @torch.no_grad()
    def _validate(self) -> dict[str, float]:
        """Loss of the next item among the items seen, and its recall and reciprocal rank among the first 20."""
        self.model.eval()
        rivals = self.model.item_vectors[self.candidates]
        trained = torch.zeros(self.model.n_items + 1, dtype=torch.bool, device=self.device)
        trained[self.candidates] = True
        sums = np.zeros(4)
        size = min(max(_VALIDATION_CELLS // (16 * len(self.candidates)), 1), 64)
        for sessions in epoch_order(np.minimum(self.held_out.lengths, self.config.max_tokens), size, None):
            batch = session_batch(self.held_out, sessions, self.config.max_tokens, self.device)
            asked = batch.chosen & trained[batch.items]
            output = self.model(batch.items, batch.events, batch.gaps, batch.lengths)
            logits = output.states[:, :-1][asked] @ rivals.T / self.config.temperature  # (M, C)
            own = torch.searchsorted(self.candidates, batch.items[asked])[:, None]
            logits_own = logits.gather(1, own)
            rank = (logits >= logits_own).sum(1)
            hit = rank <= 20
            loss = (logits.logsumexp(1) - logits_own[:, 0]).sum()
            sums += [float(loss), float(hit.sum()), float((hit / rank).sum()), len(rank)]
        loss, recall, mrr = (float(total) / max(sums[3], 1) for total in sums[:3])
        return {"validation_loss": loss, "validation_recall@20": recall, "validation_mrr@20": mrr}

    def facts(self, state: Progress) -> dict[str, float | int]:
        """Figures of the run, for the artefact's record."""
        return {
            "parameters": sum(weight.numel() for weight in self.model.parameters()),
            "sessions": len(self.train_tokens),
            "validation_sessions": len(self.held_out),
            "tokens": len(self.train_tokens.items),
            "items": self.model.n_items,
            "items_seen": len(self.candidates),
            "epochs": len(state.epochs),
            "best_epoch": state.best + 1,
            "seconds": round(state.seconds, 1),
            **{name: round(value, 4) for name, value in state.epochs[state.best].items()},
        }


def _content(log: ShopLog) -> str:
    """A hash of all that pretraining reads of a log."""
    digest = hashlib.sha256(" ".join(EVENT_CODES).encode())
    tokens: Tokens = log.tokens
    parts: tuple[Ints | Floats, ...] = (tokens.items, tokens.events, tokens.gaps, tokens.offsets, log.catalogue.prices)
    for part in parts:
        digest.update(np.ascontiguousarray(part).tobytes())
    digest.update("\0".join([*log.catalogue.item_ids[1:], *log.catalogue.texts()]).encode())
    return digest.hexdigest()[:16]
