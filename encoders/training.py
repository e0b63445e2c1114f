"""One training run of the session encoder: its batches, losses, optimizer and checkpoints.

Shapes: R rows of L places, N items, C candidate items, D width, M predictions.
"""

import math
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F
from torch.optim import AdamW

from ..datasets.tokens import Floats, Tokens
from .batches import Layout, PackedBatch, drawn_by_age, layouts, packed_batch
from .borrowing import Borrowing
from .budget import Budget
from .candidates import Sampler
from .checkpoint import Checkpoints, Progress
from .neighbours import item_counts
from .outputs import ShopSessionOutput
from .session import ShopSessionModel, gap_buckets
from .settings import PretrainConfig, passes_for
from .softmax import candidate_loss
from .tracking import Tracker

Report = Callable[[int, int, str], None]
_STEPS, _MANY_STEPS = 40, 400  # a pass has the first at least, and the second where batches are larger than usual
_USUAL_BATCH, _SMALLEST_BATCH = 512, 128  # tokens
_TELL_EVERY = 50  # steps between figures for a tracker, beside those of each pass
_VALIDATED = 4_000  # held-out sessions, at most, that are judged after each pass
_VALIDATION_TOKENS = 4_096  # a batch
_CALIBRATION = 0.05  # of a limit of processor time
_VALIDATION_CELLS = 8_000_000  # predictions times items held at once


def batch_size(tokens: int, most: int) -> int:
    """Tokens a batch for a pass over so many: few enough for enough steps, and no more than `most`."""
    usual = min(max(tokens // _STEPS, _SMALLEST_BATCH), _USUAL_BATCH)
    return min(max(tokens // _MANY_STEPS, usual), most)


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
            held_out: later ones, for early stopping; of many, as many as tell enough, evenly spaced.
            config: settings.
            device: where to train.
            queries: (Q + 1, E) text vectors of the tokens' searches, row 0 zero.
            fresh: whether items have learned nothing yet; else what they borrowed is theirs already.
        """
        self.config, self.device = config, torch.device(device)
        self.tracker: Tracker | None = None  # told the figures of each pass
        self.refreshed = 0  # steps of `refresh` taken
        self.held_out = held_out.part(np.arange(len(held_out))[:: -(-len(held_out) // _VALIDATED)])
        self.sessions, self.kept_aside = len(train), len(held_out)
        self.model = model
        self._learn_from(train, share=0.5 if fresh else 0.0)
        self.queries = torch.from_numpy(queries).to(self.device) if queries is not None else None
        self.optimizer = self._optimizer()
        batches = len(self._layouts(np.random.default_rng([config.seed, 0])))
        self.steps = math.ceil(batches / config.accumulate)  # of a pass
        self.passes = config.epochs or passes_for(len(train.items))
        self.reduced = config.precision == "bfloat16" or (config.precision == "auto" and self.device.type == "cuda")
        if config.compile:
            self.model.backbone.compile()

    def _learn_from(self, tokens: Tokens, share: float) -> None:
        """Take sessions to learn from, and what follows from them.

        Args:
            tokens: the sessions, in order of time.
            share: how much items begin to borrow from the others of their sessions.
        """
        self.train_tokens, tower = tokens, self.model.tower
        counts = item_counts(tokens, self.model.n_items)
        if tower.ids is not None and self.config.neighbours:
            tower.borrowing = Borrowing.among(tokens, self.model.n_items, self.config.neighbours, share)
        self.model = self.model.to(self.device)  # pyright: ignore[reportArgumentType]
        self.sampler = Sampler(counts, self.config, self.device)

    def _optimizer(self) -> AdamW:
        rate = self.config.id_rate or (2.0 if self.model.tower.text is None else 1.0)
        own, still, rest = [], [], []
        for name, weight in self.model.named_parameters():
            (own if name == "tower.ids.weight" else rest if weight.ndim > 1 else still).append(weight)
        groups = [
            {
                "params": own,
                "scale": rate,
                "weight_decay": self.config.weight_decay / rate,
            },
            {"params": rest, "scale": 1.0, "weight_decay": self.config.weight_decay},
            {"params": still, "scale": 1.0, "weight_decay": 0.0},
        ]
        return AdamW(groups, lr=self.config.learning_rate, betas=(0.9, 0.98), fused=True)

    def _layouts(self, rng: np.random.Generator) -> list[Layout]:
        lengths = np.minimum(self.train_tokens.lengths, self.config.max_tokens)
        size = batch_size(int(lengths.sum()), self.config.batch_tokens)
        sessions = drawn_by_age(len(lengths), self.config.half_life, rng)
        return layouts(lengths, pack=self.config.pack, size=size, rng=rng, sessions=sessions)

    def train(self, checkpoints: Checkpoints, report: Report | None) -> Progress:
        """All epochs that are left; each one leaves a checkpoint."""
        state = checkpoints.resume(self.model, self.optimizer)
        limit = self._seconds
        # `refresh` comes after.
        budget = Budget(
            state.steps or self.passes * self.steps, limit and limit / (1 + self.config.refresh), state.cpu_seconds
        )
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

    @property
    def calibration_seconds(self) -> float | None:
        """Processor time that setting scores right may take; None for no limit."""
        return self.config.cpu_seconds and _CALIBRATION * self.config.cpu_seconds

    @property
    def _seconds(self) -> float | None:
        """Processor time that is left for learning."""
        return self.config.cpu_seconds and self.config.cpu_seconds - (self.calibration_seconds or 0.0)

    def _refresh_steps(self, state: Progress) -> int:
        """Steps of `refresh` after a training: those that are wanted, or as many as there is time for."""
        wanted = math.ceil(self.config.refresh * (state.best + 1) * self.steps)
        if self.config.cpu_seconds is None:
            return wanted
        # What calibrating took is among the seconds spent, so nothing is kept for it any more.
        each = state.cpu_seconds / max(min(len(state.epochs) * self.steps, state.steps), 1)
        return min(wanted, max(int((self.config.cpu_seconds - state.cpu_seconds) / max(each, 1e-9)), 0))

    def refresh(self, tokens: Tokens, state: Progress, report: Report | None) -> None:
        """Learn from all sessions, the held-out ones too, in a few steps at a falling rate.

        Args:
            tokens: the sessions, in order of time.
            state: of the training before, whose best weights the model has; the time taken is added.
            report: told of the steps.
        """
        config, tower = self.config, self.model.tower
        self.refreshed = steps = self._refresh_steps(state)
        if not steps:
            return
        with state.spending():
            self._learn_from(tokens, 0.0 if tower.borrowing is None else tower.borrowing.share.item())
            tower.item_seen[self.sampler.items] = 1.0
            self.optimizer = self._optimizer()
            self.model.train()
            rng = np.random.default_rng([config.seed, 2])
            with self._seeded(rng):
                waiting: list[Layout] = []
                for step in range(steps):
                    while len(waiting) < config.accumulate:
                        waiting += self._layouts(rng)
                    layouts, waiting = waiting[: config.accumulate], waiting[config.accumulate :]
                    rate = config.refresh_rate * self._rate(step, steps)
                    loss = self._step(layouts, rng, rate)
                    if report:
                        report(step + 1, steps, f"learning from the latest sessions too, loss {loss:.3f}")
                    if self.tracker and (step + 1) % _TELL_EVERY == 0:
                        done = len(state.epochs) * self.steps + step + 1
                        self.tracker.log({"loss": loss, "rate": rate}, step=done)

    def _finished(self, state: Progress, budget: Budget) -> bool:
        passes = len(state.epochs)
        patient = passes - 1 - state.best < self.config.patience
        return passes * self.steps >= budget.steps or not patient or (passes > 0 and budget.over)

    def _epoch(self, epoch: int, budget: Budget, report: Report | None) -> dict[str, float]:
        """One pass. Its random numbers follow from the seed and the epoch alone, so that a resumed run repeats them."""
        self.model.train()
        rng = np.random.default_rng([self.config.seed, 1, epoch])
        losses = []
        with self._seeded(rng):
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

    @contextmanager
    def _seeded(self, rng: np.random.Generator) -> Iterator[None]:
        """Torch's own random numbers follow from `rng`, and are afterwards what they were."""
        with torch.random.fork_rng(devices=[self.device] if self.device.type == "cuda" else []):
            torch.manual_seed(int(rng.integers(2**62)))
            yield

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
        chosen = _places(batch.chosen)
        targets = batch.next_items.flatten()[chosen]  # (M,)
        candidates = self.sampler.draw(targets, rng)
        used = torch.unique(torch.cat([batch.items.flatten(), candidates.items]))
        table = self.model.tower(used)  # rows of the items in this batch and their rivals
        inputs = F.embedding(torch.searchsorted(used, batch.items), table)  # its gradient is faster than an index's
        output = self.model.read_packed(batch, inputs, self._asked(batch.queries))
        rivals = F.embedding(torch.searchsorted(used, candidates.items), table)
        item = candidate_loss(
            self._towards(_at(output.states, chosen), batch.next_queries.flatten()[chosen]),
            F.normalize(F.dropout(rivals, self.config.rival_dropout), dim=1),
            candidates.rows(targets),
            temperature=self.model.config.item_temperature,
            bias=-candidates.correction,
            weights=torch.where(batch.place.flatten()[chosen] > 0, 1.0, self.config.first_weight),
            company=candidates.company(batch, chosen),
        )
        return item + self._aside(batch, output)

    def _aside(self, batch: PackedBatch, output: ShopSessionOutput) -> Tensor:
        """Loss of what is foretold beside the next item."""
        follows = _places(batch.follows)
        event = F.cross_entropy(_at(output.event_logits, follows), batch.next_events.flatten()[follows])
        end = _yes_or_no(output.end_logits, batch.ends, batch.knows_end)
        buys = _yes_or_no(output.purchase_logits, batch.buys, batch.session > 0)
        later = _places(batch.follows & (batch.place > 0))  # a session's first token comes after no time at all
        until = gap_buckets(batch.next_gaps.flatten()[later])
        gap = F.cross_entropy(_at(output.gap_logits, later), until) if len(later) else 0.0
        weights = self.config
        aside = weights.event_weight * event + weights.end_weight * end + weights.purchase_weight * buys
        return aside + weights.gap_weight * gap

    def _asked(self, numbers: Tensor) -> Tensor | None:
        """(..., E) text vectors of searches by number, None where the run has none."""
        return None if self.queries is None else F.embedding(numbers, self.queries)

    def _towards(self, states: Tensor, queries: Tensor) -> Tensor:
        """States whose next item is foreseen: what is known to be searched for is no secret then."""
        asked = self._asked(queries)
        return states if asked is None else self.model.towards(states, asked)

    @torch.no_grad()
    def _validate(self) -> dict[str, float]:
        """Loss of the next item among the items seen, and its recall and reciprocal rank among the first 20."""
        self.model.eval()
        rivals = self.model.item_vectors[self.sampler.items]
        trained = torch.zeros(self.model.n_items + 1, dtype=torch.bool, device=self.device)
        trained[self.sampler.items] = True
        sums = torch.zeros(4, dtype=torch.float64)
        lengths = np.minimum(self.held_out.lengths, self.config.max_tokens)
        for layout in layouts(lengths, pack=self.config.pack, size=_VALIDATION_TOKENS, rng=None):
            batch = packed_batch(self.held_out, layout, self.config.max_tokens, self.device)
            asked = batch.chosen & (batch.place > 0) & trained[batch.next_items]
            states = self.model.read_packed(batch, queries=self._asked(batch.queries)).states[asked]
            states, targets = self._towards(states, batch.next_queries[asked]), batch.next_items[asked]
            for part in range(0, len(targets), max(_VALIDATION_CELLS // len(self.sampler.items), 1)):
                some = slice(part, part + max(_VALIDATION_CELLS // len(self.sampler.items), 1))
                sums += self._judged(states[some], targets[some], rivals)
        loss, recall, mrr = (sums[:3] / sums[3].clamp(min=1)).tolist()
        return {"validation_loss": loss, "validation_recall@20": recall, "validation_mrr@20": mrr}

    def _judged(self, states: Tensor, targets: Tensor, rivals: Tensor) -> Tensor:
        """(4,) sums over M predictions: loss, hits among the first 20, reciprocal ranks of these, and M."""
        logits = states @ rivals.T / self.model.config.item_temperature  # (M, C)
        own = logits.gather(1, torch.searchsorted(self.sampler.items, targets)[:, None])
        rank = (logits >= own).sum(1)
        hit = rank <= 20
        loss = (logits.logsumexp(1) - own[:, 0]).sum()
        return torch.tensor([loss, hit.sum(), (hit / rank).sum(), len(rank)], dtype=torch.float64)

    def facts(self, state: Progress) -> dict[str, float | int]:
        """Figures of the run, for the artefact's record."""
        return {
            "parameters": sum(weight.numel() for weight in self.model.parameters()),
            "sessions": self.sessions,
            "validation_sessions": self.kept_aside,
            "tokens": len(self.train_tokens.items),
            "items": self.model.n_items,
            "items_seen": len(self.sampler.items),
            "epochs": len(state.epochs),
            "best_epoch": state.best + 1,
            "refresh_steps": self.refreshed,
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
