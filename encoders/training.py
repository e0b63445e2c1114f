"""One training run of the session encoder: its batches, losses, optimizer and checkpoints.

Shapes: R rows of L places, N items, C candidate items, D width, M predictions.
"""

import math
import time
from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F
from torch.optim import AdamW

from ..datasets.tokens import Floats, Tokens
from .batches import Layout, PackedBatch, layouts, packed_batch
from .borrowing import Borrowing
from .budget import Budget
from .checkpoint import Checkpoints, Progress
from .neighbours import item_counts
from .session import ShopSessionModel, gap_buckets
from .settings import PretrainConfig
from .tracking import Tracker

Report = Callable[[int, int, str], None]
_STEPS = 40  # an epoch has at least this many, unless batches were smaller than the next
_SMALLEST_BATCH = 128  # tokens
_TELL_EVERY = 50  # steps between figures for a tracker, beside those of each pass
_VALIDATION_TOKENS = 4_096  # a batch
_VALIDATION_CELLS = 8_000_000  # predictions times items held at once


class Run:
    """A model, its optimizer, and the sessions it learns from and is judged by."""

    def __init__(
        self,
        model: ShopSessionModel,
        train: Tokens,
        held_out: Tokens,
        config: PretrainConfig,
        device: str,
        queries: Floats | None = None,
        fresh: bool = True,
    ) -> None:
        """Take what a run needs.

        Args:
            model: to be trained.
            train: sessions to learn from.
            held_out: later ones, for early stopping.
            config: settings.
            device: where to train.
            queries: (Q + 1, E) text vectors of the tokens' searches, row 0 zero.
            fresh: whether items have learned nothing yet; else what they borrowed is theirs already.
        """
        self.config, self.device = config, torch.device(device)
        self.tracker: Tracker | None = None  # told the figures of each pass
        self.train_tokens, self.held_out = train, held_out
        counts = item_counts(train, model.n_items)
        if model.tower.ids is not None and config.neighbours:
            share = 0.5 if fresh else 0.0
            model.tower.borrowing = Borrowing.among(train, model.n_items, config.neighbours, share)
        self.model = model.to(self.device)  # pyright: ignore[reportArgumentType]
        self.candidates = torch.from_numpy(np.flatnonzero(counts)).to(self.device)
        self.chance = torch.from_numpy(counts / max(counts.sum(), 1)).to(self.device, torch.float32)
        self.queries = torch.from_numpy(queries).to(self.device) if queries is not None else None
        self.optimizer = self._optimizer()
        batches = len(self._layouts(np.random.default_rng([config.seed, 0])))
        self.steps = math.ceil(batches / config.accumulate)  # of a pass
        self.reduced = config.precision == "bfloat16" or (config.precision == "auto" and self.device.type == "cuda")
        if config.compile:
            self.model.backbone.compile()

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

    def _layouts(self, rng: np.random.Generator) -> list[Layout]:
        lengths = np.minimum(self.train_tokens.lengths, self.config.max_tokens)
        size = min(self.config.batch_tokens, max(int(lengths.sum()) // _STEPS, _SMALLEST_BATCH))
        return layouts(lengths, pack=self.config.pack, size=size, rng=rng)

    def train(self, checkpoints: Checkpoints, report: Report | None) -> Progress:
        """All epochs that are left; each one leaves a checkpoint."""
        state = checkpoints.resume(self.model, self.optimizer)
        budget = Budget(state.steps or self.config.epochs * self.steps, self.config.cpu_seconds, state.cpu_seconds)
        while not self._finished(state, budget):
            begun, epoch = time.perf_counter(), len(state.epochs)
            figures = self._epoch(epoch, budget, report) | self._validate()
            state.epochs.append(figures)
            if state.best < 0 or figures["validation_loss"] < state.epochs[state.best]["validation_loss"]:
                state.best = epoch
            state.seconds += time.perf_counter() - begun
            state.cpu_seconds, state.steps = budget.spent, budget.steps
            checkpoints.save(state, self.model, self.optimizer)
            if self.tracker:
                self.tracker.log(dict(figures), step=len(state.epochs) * self.steps)
        return state

    def _finished(self, state: Progress, budget: Budget) -> bool:
        passes = len(state.epochs)
        patient = passes - 1 - state.best < self.config.patience
        return passes * self.steps >= budget.steps or not patient or (passes > 0 and budget.over)

    def _epoch(self, epoch: int, budget: Budget, report: Report | None) -> dict[str, float]:
        """One pass. Its random numbers follow from the seed and the epoch alone, so that a resumed run repeats them."""
        self.model.train()
        rng = np.random.default_rng([self.config.seed, 1, epoch])
        losses = []
        with torch.random.fork_rng(devices=[self.device] if self.device.type == "cuda" else []):
            torch.manual_seed(int(rng.integers(2**62)))
            layouts, many = self._layouts(rng), self.config.accumulate
            for number, begin in enumerate(range(0, len(layouts), many)):
                step = epoch * self.steps + min(number, self.steps - 1)  # passes differ by a batch or so
                if losses and (step >= budget.steps or budget.over):
                    break
                rate = self._rate(step, budget.steps)
                losses.append(self._step(layouts[begin : begin + many], rng, rate))
                budget.step_taken()
                if report:
                    words = f"pretraining the session encoder, epoch {epoch + 1}, loss {losses[-1]:.3f}"
                    report(min(step + 1, budget.steps), budget.steps, words)
                if self.tracker and (number + 1) % _TELL_EVERY == 0:
                    told = {"loss": float(np.mean(losses[-_TELL_EVERY:])), "rate": rate}
                    self.tracker.log(told, step=step + 1)
        return {"training_loss": float(np.mean(losses))}

    def _step(self, layouts: list[Layout], rng: np.random.Generator, rate: float) -> float:
        """One step of the optimizer at a share of the learning rate; returns the loss."""
        for group in self.optimizer.param_groups:
            group["lr"] = group["scale"] * self.config.learning_rate * rate
        self.optimizer.zero_grad(set_to_none=True)
        total = 0.0
        for layout in layouts:
            batch = packed_batch(self.train_tokens, layout, self.config.max_tokens, self.device)
            with torch.autocast(self.device.type, torch.bfloat16, enabled=self.reduced):
                loss = self._loss(batch, rng) / len(layouts)
            loss.backward()
            total += loss.item()
        torch.nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
        self.optimizer.step()
        return total

    def _rate(self, step: int, total: int) -> float:
        rising = max(self.config.warm_up * total, 1)
        if step < rising:
            return (step + 1) / rising
        return 0.02 + 0.98 * 0.5 * (1 + math.cos(math.pi * min((step - rising) / max(total - rising, 1), 1)))

    def _loss(self, batch: PackedBatch, rng: np.random.Generator) -> Tensor:
        chosen, follows = _places(batch.chosen), _places(batch.follows)
        targets = batch.next_items.flatten()[chosen]  # (M,)
        candidates, correction = self._candidates(targets, rng)
        used = torch.unique(torch.cat([batch.items.flatten(), candidates]))
        table = self.model.tower(used)  # rows of the items in this batch and their rivals
        inputs = F.embedding(torch.searchsorted(used, batch.items), table)  # its gradient is faster than an index's
        output = self.model.read_packed(batch, inputs, self._asked(batch.queries))
        rivals = F.normalize(F.embedding(torch.searchsorted(used, candidates), table), dim=1)
        states = self._towards(_at(output.states, chosen), batch.next_queries.flatten()[chosen])
        logits = (states @ rivals.T).float() / self.model.config.item_temperature - correction  # (M, C)
        item = F.cross_entropy(logits, torch.searchsorted(candidates, targets)) if len(targets) else logits.sum()
        event = F.cross_entropy(_at(output.event_logits, follows), batch.next_events.flatten()[follows])
        end = _yes_or_no(output.end_logits, batch.ends, batch.knows_end)
        buys = _yes_or_no(output.purchase_logits, batch.buys, batch.session > 0)
        later = _places(batch.follows & (batch.place > 0))  # a session's first token comes after no time at all
        until = gap_buckets(batch.next_gaps.flatten()[later])
        gap = F.cross_entropy(_at(output.gap_logits, later), until) if len(later) else 0.0
        weights = self.config
        aside = weights.event_weight * event + weights.end_weight * end + weights.purchase_weight * buys
        return item + aside + weights.gap_weight * gap

    def _asked(self, numbers: Tensor) -> Tensor | None:
        """(..., E) text vectors of searches by number, None where the run has none."""
        return None if self.queries is None else F.embedding(numbers, self.queries)

    def _towards(self, states: Tensor, queries: Tensor) -> Tensor:
        """States whose next item is foreseen: what is known to be searched for is no secret then."""
        asked = self._asked(queries)
        return states if asked is None else self.model.towards(states, asked)

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
        sums = torch.zeros(4, dtype=torch.float64)
        lengths = np.minimum(self.held_out.lengths, self.config.max_tokens)
        for layout in layouts(lengths, pack=self.config.pack, size=_VALIDATION_TOKENS, rng=None):
            batch = packed_batch(self.held_out, layout, self.config.max_tokens, self.device)
            asked = batch.chosen & trained[batch.next_items]
            states = self.model.read_packed(batch, queries=self._asked(batch.queries)).states[asked]
            states, targets = self._towards(states, batch.next_queries[asked]), batch.next_items[asked]
            for part in range(0, len(targets), max(_VALIDATION_CELLS // len(self.candidates), 1)):
                some = slice(part, part + max(_VALIDATION_CELLS // len(self.candidates), 1))
                sums += self._judged(states[some], targets[some], rivals)
        loss, recall, mrr = (sums[:3] / sums[3].clamp(min=1)).tolist()
        return {"validation_loss": loss, "validation_recall@20": recall, "validation_mrr@20": mrr}

    def _judged(self, states: Tensor, targets: Tensor, rivals: Tensor) -> Tensor:
        """(4,) sums over M predictions: loss, hits among the first 20, reciprocal ranks of these, and M."""
        logits = states @ rivals.T / self.model.config.item_temperature  # (M, C)
        own = logits.gather(1, torch.searchsorted(self.candidates, targets)[:, None])
        rank = (logits >= own).sum(1)
        hit = rank <= 20
        loss = (logits.logsumexp(1) - own[:, 0]).sum()
        return torch.tensor([loss, hit.sum(), (hit / rank).sum(), len(rank)], dtype=torch.float64)

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
            "cpu_seconds": round(state.cpu_seconds, 1),
            **{name: round(value, 4) for name, value in state.epochs[state.best].items()},
        }


def _places(mask: Tensor) -> Tensor:
    """(M,) where an (R, L) mask is set, counted over all rows."""
    return mask.flatten().nonzero()[:, 0]


def _at(values: Tensor, places: Tensor) -> Tensor:
    """(M, W) rows of (R, L, W) values."""
    return F.embedding(places, values.flatten(0, 1))  # faster backward than indexing


def _yes_or_no(logits: Tensor, truth: Tensor, known: Tensor) -> Tensor:
    """Mean loss of a chance where the truth is known."""
    return F.binary_cross_entropy_with_logits(logits[known], truth[known].float())
