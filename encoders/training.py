"""One training run of the session encoder: its batches, losses, optimizer and checkpoints.

Shapes: B sessions, T tokens, N items, C candidate items, D width, M predictions.
"""

import math
import time
from collections.abc import Callable, Iterator

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F
from torch.optim import AdamW

from ..datasets.tokens import Ints, Tokens
from .batches import SessionBatch, epoch_order, session_batch
from .checkpoint import Checkpoints, Progress
from .neighbours import item_counts
from .session import ShopSessionModel
from .settings import PretrainConfig

Report = Callable[[int, int, str], None]
_STEPS = 40  # an epoch has at least this many, unless batches were smaller than the next
_SMALLEST_BATCH = 16
_VALIDATION_CELLS = 32_000_000  # predictions times items held at once


class Run:
    """A model, its optimizer, and the sessions it learns from and is judged by."""

    def __init__(
        self, model: ShopSessionModel, train: Tokens, held_out: Tokens, config: PretrainConfig, device: str
    ) -> None:
        self.config, self.device = config, torch.device(device)
        self.train_tokens, self.held_out = train, held_out
        counts = item_counts(train, model.n_items)
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
