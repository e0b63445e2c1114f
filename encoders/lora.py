"""Fine-tuning of the text model on a shop: texts of items that follow each other in a session are drawn together.

Only low-rank additions to the model's weights are learnt (LoRA), by peft, and merged into it at the end: what comes out
is an ordinary text model. A model that does not foretell later sessions better than before is not kept.

Shapes: B pairs, E width of text vectors, P pairs.

Sources: Hu et al., "LoRA: low-rank adaptation of large language models", ICLR 2022; in-batch softmax with the
correction for popularity, Yi et al., "Sampling-bias-corrected neural modeling", RecSys 2019.
"""

import shutil
import time
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.optim import AdamW

from ..datasets.artefact import building, is_finished
from ..datasets.log import ShopLog
from ..datasets.tokens import Ints
from .checkpoint import Checkpoints, Progress
from .pairs import PairParts, gain, pair_ranks
from .quiet import quiet_transformers
from .text import TextEncoder, text_vectors
from .tracking import Tracker

Report = Callable[[int, int, str], None]
KIND = "text_model"
"""The kind of artefact."""
FIRST = 20
"""Recall counts the nearest items up to this many."""
_BESIDE = ("1_Pooling", "modules.json", "sentence_bert_config.json", "config_sentence_transformers.json")
"""What sentence-transformers keeps beside a model; it says how token vectors become one."""


@dataclass(frozen=True, kw_only=True)
class FineTuneConfig:
    """Settings of a fine-tuning run."""

    rank: int = 8
    """Rank of what is added to each weight matrix."""
    alpha: int = 16
    """What is added is scaled by `alpha / rank`."""
    dropout: float = 0.05
    """Of the inputs of what is added."""
    steps: int = 300
    """Optimizer steps at most; fewer when the validation figure stops improving."""
    every: int = 30
    """Steps between validations, each of which leaves a checkpoint."""
    patience: int = 3
    """Validations without improvement before stopping."""
    batch_size: int = 64
    """Pairs a step; the others of a batch are what each is told apart from."""
    learning_rate: float = 3e-4
    temperature: float = 0.05
    """Of the softmax over the cosine between two texts."""
    max_length: int = 64
    """Tokens read of each text while learning; the finished model reads as many as it always did."""
    validation_fraction: float = 0.2
    """Share of the sessions, the latest, that one half of chooses when to stop, and the other what is kept."""
    candidates: int = 2_000
    """Items among which validation looks for the next one, at most."""
    pairs: int = 2_000
    """Pairs that each half of the validation counts, at most."""
    seed: int = 0

    def __post_init__(self) -> None:
        for name in ("rank", "steps", "every", "patience", "candidates", "pairs"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, got {getattr(self, name)}")
        if self.batch_size < 2 or self.max_length < 2:
            raise ValueError(
                f"batch_size and max_length must be at least 2, got {self.batch_size} and {self.max_length}"
            )
        if self.alpha <= 0 or self.learning_rate <= 0 or self.temperature <= 0:
            raise ValueError("alpha, learning_rate and temperature must be positive")
        if not 0 <= self.dropout < 1 or not 0 < self.validation_fraction < 1:
            raise ValueError("dropout must be in [0, 1) and validation_fraction in (0, 1)")


def fine_tune_text(
    log: ShopLog,
    out: Path,
    *,
    model: TextEncoder | str | Path | None = None,
    config: FineTuneConfig | None = None,
    inputs: Mapping[str, str] | None = None,
    force: bool = False,
    device: str = "cpu",
    tracker: Tracker | None = None,
    progress: Report | None = None,
) -> TextEncoder:
    """Fine-tune a text model on the sessions of a log, and write it as an artefact of kind "text_model".

    The folder holds a model as transformers write them, so `TextEncoder(out)` and `--text-model OUT` read it like any
    other. Of the latest sessions, one half chooses when to stop; on the other, the model is compared with what it was.
    Where it foretells the next item no better, the folder holds the model as it was, and the record says
    `"kept": false`. A run that was killed goes on from its last validation and ends with the same weights.

    Args:
        log: the sessions; those the model must not have seen are taken out by the caller.
        out: folder of the artefact; `out.partial` while it is being built.
        model: the model to begin with, as `TextEncoder` takes it; all-MiniLM-L6-v2 when None.
        config: settings; defaults when None.
        inputs: name -> id of the artefacts that `log` came from; a hash of the pairs and texts when None.
        force: replace a finished artefact.
        device: where the training runs.
        tracker: told `text/loss`, `text/recall@20` and `text/mrr` at each validation.
        progress: called with (steps done, steps at most, words).

    Returns:
        The encoder of texts by the model in `out`, which uses the default cache.

    Raises:
        EvidenceError: too few items follow each other in the log's sessions.
        ArtefactError: `out` holds something else, or other settings, and `force` is not set.
        ModelNotFoundError: the model to begin with is not there.
        ModuleNotFoundError: peft is not installed.
    """
    config = config or FineTuneConfig()
    base = model if isinstance(model, TextEncoder) else TextEncoder(model)
    _check_peft()
    texts = log.catalogue.texts()
    parts = PairParts.of(
        log, later=config.validation_fraction, most=config.pairs, candidates=config.candidates, seed=config.seed
    )
    settings = {**asdict(config), "model": base.fingerprint}
    inputs = inputs or {"log": parts.content(texts)}
    if force or not is_finished(out, KIND, settings, inputs):
        with building(out, KIND, settings, inputs, force=force) as draft:
            run = _FineTuning(base, texts, parts, config, device)
            checkpoints = Checkpoints(draft.folder)
            state = run.train(checkpoints, tracker, progress)
            draft.facts |= {**_origin(base), **run.finish(checkpoints, state)}
            run.save(base.folder, draft.folder, kept=draft.facts["kept"])
            shutil.rmtree(checkpoints.folder)
    return TextEncoder(out, cache=base.cache, device=device, max_length=base.max_length, batch_size=base.batch_size)


def pair_loss(first: Tensor, second: Tensor, pairs: Tensor, log_chance: Tensor, temperature: float) -> Tensor:
    """How badly the second item of each pair is told from those of the other pairs.

    Args:
        first: (B, E) unit vectors of the pairs' first items.
        second: (B, E) unit vectors of their second items.
        pairs: (B, 2) item indices; rivals that are a row's own first or second item are left out.
        log_chance: (B,) logarithm of how often the second item is one, which its logit is too low by as a rival.
        temperature: of the softmax, positive.
    """
    logits = first @ second.T / temperature - log_chance  # (B, B)
    same = pairs[:, 1] == pairs[:, 1:]  # (B, B) by row and rival
    same.fill_diagonal_(False)
    logits = logits.masked_fill(same | (pairs[:, 1] == pairs[:, :1]), float("-inf"))
    return F.cross_entropy(logits, torch.arange(len(pairs), device=logits.device))


class _FineTuning:
    """The model with its additions, their optimizer, and the pairs."""

    def __init__(
        self, base: TextEncoder, texts: Sequence[str], parts: PairParts, config: FineTuneConfig, device: str
    ) -> None:
        import peft
        from transformers import AutoModel, AutoTokenizer

        self.config, self.parts, self.texts, self.device = config, parts, texts, torch.device(device)
        self.first_token, self.batch_size = base.first_token, base.batch_size
        with quiet_transformers(), torch.random.fork_rng(devices=[]):
            torch.manual_seed(config.seed)
            self.tokenizer = AutoTokenizer.from_pretrained(base.folder)
            model = AutoModel.from_pretrained(base.folder, dtype=torch.float32, use_safetensors=True)
            added = peft.LoraConfig(
                r=config.rank, lora_alpha=config.alpha, lora_dropout=config.dropout, target_modules="all-linear"
            )
            with warnings.catch_warnings():
                # peft asks transformers by names that the newest release calls old.
                warnings.simplefilter("ignore", FutureWarning)
                self.model = peft.get_peft_model(model, added).to(self.device)
        self.added = nn.ParameterList(weight for weight in self.model.parameters() if weight.requires_grad)
        self.optimizer = AdamW(self.added, lr=config.learning_rate, weight_decay=0.01)
        self.before = self._figures()

    def train(self, checkpoints: Checkpoints, tracker: Tracker | None, report: Report | None) -> Progress:
        """All rounds that are left; each one ends with a validation and a checkpoint."""
        config, state = self.config, checkpoints.resume(self.added, self.optimizer)
        rounds = -(-config.steps // config.every)
        while len(state.epochs) < rounds and len(state.epochs) - 1 - state.best < config.patience:
            begun = time.perf_counter()
            loss = self._round(len(state.epochs), report)
            figures = {"loss": loss, **self._figures()}
            best = self.before["mrr"] if state.best < 0 else state.epochs[state.best]["mrr"]
            state.epochs.append(figures)
            if figures["mrr"] > best:
                state.best = len(state.epochs) - 1
            state.seconds += time.perf_counter() - begun
            checkpoints.save(state, self.added, self.optimizer)
            if tracker:
                steps = min(len(state.epochs) * config.every, config.steps)
                tracker.log({f"text/{name}": value for name, value in figures.items()}, step=steps)
        return state

    def _round(self, number: int, report: Report | None) -> float:
        """Steps up to the next validation. Their random numbers follow from the seed and the round alone."""
        config, rng = self.config, np.random.default_rng([self.config.seed, 1, number])
        self.model.train()
        losses = []
        with torch.random.fork_rng(devices=[self.device] if self.device.type == "cuda" else []):
            torch.manual_seed(int(rng.integers(2**62)))
            for step in range(number * config.every, min((number + 1) * config.every, config.steps)):
                for group in self.optimizer.param_groups:
                    group["lr"] = config.learning_rate * _rate(step, config.steps)
                loss = self._loss(self.parts.train[rng.integers(0, len(self.parts.train), config.batch_size)])
                self.optimizer.zero_grad(set_to_none=True)
                loss.backward()
                torch.nn.utils.clip_grad_norm_(self.added, 1.0)
                self.optimizer.step()
                losses.append(loss.item())
                if report:
                    report(step + 1, config.steps, f"fine-tuning the text model, loss {losses[-1]:.3f}")
        return float(np.mean(losses))

    def _loss(self, pairs: Ints) -> Tensor:
        used, place = np.unique(pairs, return_inverse=True)
        vectors = self._vectors(used)[torch.from_numpy(place.reshape(pairs.shape)).to(self.device)]  # (B, 2, E)
        chance = torch.from_numpy(np.log(self.parts.chance[pairs[:, 1]])).to(vectors)
        on_device = torch.from_numpy(pairs).to(self.device)
        return pair_loss(vectors[:, 0], vectors[:, 1], on_device, chance, self.config.temperature)

    def _vectors(self, items: Ints) -> Tensor:
        """(n, E) unit vectors of items' texts."""
        words = [self.texts[item - 1] for item in items]
        tokens = self.tokenizer(
            words, padding=True, truncation=True, max_length=self.config.max_length, return_tensors="pt"
        ).to(self.device)
        hidden = self.model(**tokens).last_hidden_state
        return text_vectors(hidden, tokens["attention_mask"], first_token=self.first_token)

    @torch.no_grad()
    def _ranks(self, pairs: Ints) -> Ints:
        """(P,) rank of each pair's second item among the candidates nearest to its first, best 1."""
        self.model.eval()
        items = self.parts.candidates
        # Texts of like length share a batch, so that little of it is padding.
        order = np.argsort([len(self.texts[item - 1]) for item in items], kind="stable")
        batches = np.split(items[order], range(self.batch_size, len(items), self.batch_size))
        vectors = torch.cat([self._vectors(batch) for batch in batches])
        return pair_ranks(vectors[torch.from_numpy(np.argsort(order)).to(self.device)], items, pairs)

    def _figures(self) -> dict[str, float]:
        ranks = self._ranks(self.parts.choosing)
        return {f"recall@{FIRST}": float((ranks <= FIRST).mean()), "mrr": float((1 / ranks).mean())}

    def finish(self, checkpoints: Checkpoints, state: Progress) -> dict[str, Any]:
        """Put the model to its best round, compare it with what it was, and tell what came out."""
        pairs, session, seed = self.parts.judging, self.parts.judging_session, self.config.seed
        with self.model.disable_adapter():
            before = self._ranks(pairs)
        after = before
        if state.best >= 0:
            checkpoints.load_best(state, self.added)
            after = self._ranks(pairs)
        return {
            "kept": bool((1 / after).mean() > (1 / before).mean()),
            "steps": min(len(state.epochs) * self.config.every, self.config.steps),
            "best_step": min((state.best + 1) * self.config.every, self.config.steps),
            "pairs": len(self.parts.train),
            "judged_pairs": len(pairs),
            "candidates": len(self.parts.candidates),
            f"recall@{FIRST}": gain((before <= FIRST) * 1.0, (after <= FIRST) * 1.0, session, seed),
            "mrr": gain(1 / before, 1 / after, session, seed),
            "seconds": round(state.seconds, 1),
        }

    def save(self, base: Path, folder: Path, *, kept: bool) -> None:
        """Write the model, its additions merged or dropped, as transformers and sentence-transformers read it."""
        tuner: Any = self.model.base_model
        plain = tuner.merge_and_unload() if kept else tuner.unload()
        with quiet_transformers():
            plain.save_pretrained(folder)
            self.tokenizer.save_pretrained(folder)
        for path in (base / name for name in _BESIDE):
            if path.is_dir():
                shutil.copytree(path, folder / path.name, dirs_exist_ok=True)
            elif path.is_file():
                shutil.copyfile(path, folder / path.name)


def _check_peft() -> None:
    try:
        import peft  # noqa: F401
    except ModuleNotFoundError as error:
        if error.name not in ("peft", "accelerate"):
            raise
        raise ModuleNotFoundError(
            f'fine-tuning the text model needs {error.name}; pip install "slatewise[lora]"', name=error.name
        ) from error


def _rate(step: int, total: int) -> float:
    """Share of the learning rate: rising for a tenth of the steps, then falling in a straight line."""
    return min((step + 1) / (0.1 * total), (total - step) / (0.9 * total), 1.0)


def _origin(base: TextEncoder) -> dict[str, Any]:
    """Which model was begun with, and what its own card says that still holds."""
    told = {name: base.about[name] for name in ("license", "language") if name in base.about}
    before = {"base": base.name, "base_fingerprint": base.fingerprint}
    return {name: base.about.get(name, value) for name, value in before.items()} | told
