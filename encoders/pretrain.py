"""Pretraining of the session encoder on logged sessions: what comes next, and whether anything does."""

import hashlib
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from ..datasets.artefact import building, is_finished, package_versions
from ..datasets.catalogue import Catalogue
from ..datasets.log import ShopLog
from ..datasets.schema import EVENT_CODES
from ..datasets.tokens import Floats, Ints, Tokens
from ..errors import EvidenceError
from .calibration import calibrate, popularity
from .card import write_card
from .checkpoint import Checkpoints
from .learnt_from import SessionSketch, sketch_of
from .loading import load_encoder
from .neighbours import item_counts
from .next_item import encoder_scorer, next_item_metrics
from .quiet import quiet_transformers
from .session import ShopSessionModel
from .settings import PretrainConfig
from .text import TextEncoder
from .tracking import Tracker, check_formats, tracking
from .training import Report, Run
from .transfer import CATALOGUE, WarmStart

__all__ = ["PretrainConfig", "pretrain", "pretrain_tokens"]

_FEWEST_SESSIONS = 20
_VALIDATED = 2_000  # sessions, at most, for the figures of the card


def pretrain(
    log: ShopLog,
    out: Path,
    *,
    config: PretrainConfig | None = None,
    text: TextEncoder | NDArray[np.float32] | None = None,
    queries: NDArray[np.float32] | None = None,
    inputs: Mapping[str, str] | None = None,
    warm_start: Path | None = None,
    tracker: Tracker | None = None,
    log_to: Sequence[str] = (),
    force: bool = False,
    device: str = "cpu",
    progress: Report | None = None,
) -> ShopSessionModel:
    """Train a session encoder on a log, and write it as an artefact of kind "encoder".

    `pretrain_tokens` on the log's tokens, in the order of its sessions' starts; see there for the rest.

    Args:
        log: the sessions; those of shoppers or times the encoder must not have seen are taken out by the caller.
        out: folder of the artefact; `out.partial` while it is being built.
        config: settings; defaults when None.
        text: encoder of the item texts, or their vectors (N, E); all-MiniLM-L6-v2 when None.
        queries: (Q + 1, E) vectors of `log.queries`, row 0 unread; by the encoder of the item texts when None.
        inputs: name -> id of the artefacts that `log` came from; a hash of its sessions when None.
        warm_start: folder of a trained encoder to begin with, of this shop or of another.
        tracker: told the figures of each pass over the sessions.
        log_to: kinds of files, of `tracking.FORMATS`, that the figures are written to in the artefact's `logs` folder.
        force: replace a finished artefact.
        device: where the training runs.
        progress: called with (steps done, steps at most, words).

    Raises:
        EvidenceError: the log has too few sessions, or no item that a shopper chose.
        ArtefactError: `out` holds something else, or other settings, and `force` is not set.
        ModelNotFoundError: the text model is not there.
    """
    begun = log.sessions["start"].to_numpy(dtype="datetime64[us]")
    return pretrain_tokens(
        log.tokens.part(np.argsort(begun, kind="stable")),
        log.catalogue,
        out,
        config=config,
        text=text,
        queries=log.queries if queries is None and not isinstance(text, np.ndarray) else queries,
        inputs=inputs,
        warm_start=warm_start,
        about=_about(log),
        learnt_from=SessionSketch.of(log),
        tracker=tracker,
        log_to=log_to,
        force=force,
        device=device,
        progress=progress,
    )


def pretrain_tokens(
    tokens: Tokens,
    catalogue: Catalogue,
    out: Path,
    *,
    config: PretrainConfig | None = None,
    text: TextEncoder | NDArray[np.float32] | None = None,
    queries: Sequence[str] | NDArray[np.float32] | None = None,
    inputs: Mapping[str, str] | None = None,
    warm_start: Path | None = None,
    about: Mapping[str, Any] | None = None,
    learnt_from: SessionSketch | None = None,
    tracker: Tracker | None = None,
    log_to: Sequence[str] = (),
    force: bool = False,
    device: str = "cpu",
    progress: Report | None = None,
) -> ShopSessionModel:
    """Train a session encoder on tokens, wherever they come from, and write it as an artefact of kind "encoder".

    The latest sessions are kept aside for early stopping, which the figures of the record are from, and learnt from at
    last, in a few steps more. A run that was killed goes on from its last full epoch and ends with the same weights as
    one that was not. A finished one of the same settings and inputs is read back.

    Args:
        tokens: the sessions, in order of time.
        catalogue: the items that they name.
        out: folder of the artefact; `out.partial` while it is being built.
        config: settings; defaults when None.
        text: encoder of the item texts, or their vectors (N, E), where E may be 0: items are then known by their
            other parts alone; all-MiniLM-L6-v2 when None.
        queries: texts of the searches by their numbers in the tokens, entry 0 unread, or their vectors (Q + 1, E).
            Without them, or with "query" left out of the parts, searches are not read.
        inputs: name -> id of the artefacts that the tokens came from; a hash of all that is read when None.
        warm_start: folder of a trained encoder of the same shape and text model to begin with. What it has learnt of
            sessions, texts, categories and brands is taken over, and of items that are described alike.
        about: more to record of where the tokens came from, for the card; nothing of single shoppers.
        learnt_from: sketch of the sessions, kept with the encoder; a shopper's fit then tells whether it shares them.
        tracker: told the figures of each pass over the sessions.
        log_to: kinds of files, of `tracking.FORMATS`, that the figures are written to in the artefact's `logs` folder.
        force: replace a finished artefact.
        device: where the training runs.
        progress: called with (steps done, steps at most, words).

    Returns:
        The trained encoder, in eval mode, on `device`.

    Raises:
        EvidenceError: there are too few sessions, or no item that a shopper chose.
        ArtefactError: `out` holds something else, or other settings, and `force` is not set; or the encoder to begin
            with does not fit.
        ModelNotFoundError: the text model is not there.
        ModuleNotFoundError: TensorBoard is asked for and not installed.
    """
    config = config or PretrainConfig()
    check_formats(log_to)
    _check(tokens, catalogue)
    if text is None:
        text = TextEncoder()
    read = hashlib.sha256(text.tobytes()).hexdigest()[:16] if isinstance(text, np.ndarray) else text.fingerprint
    settings = {**asdict(config), "text": read}
    if queries is None or "query" not in config.parts:
        tokens = replace(tokens, queries=None)
    elif isinstance(queries, np.ndarray):
        settings["queries"] = hashlib.sha256(queries.tobytes()).hexdigest()[:16]
    inputs = dict(inputs or {"log": _content(tokens, catalogue, queries)})
    start = WarmStart.load(warm_start) if warm_start else None
    told = text.about if isinstance(text, TextEncoder) else None
    if start:
        config = start.check(config, text.dim if isinstance(text, TextEncoder) else text.shape[1], told)
        inputs["warm_start"] = start.id
    if not force and is_finished(out, "encoder", settings, inputs):
        return load_encoder(out, device=device)
    with building(out, "encoder", settings, inputs, force=force) as draft:
        catalogue.save(draft.folder / CATALOGUE)
        vectors = text if isinstance(text, np.ndarray) else text.encode(catalogue.texts(), progress)
        asked = None if tokens.queries is None else _query_vectors(queries, text, progress)
        train, held_out = _parts(tokens, config.validation_fraction)
        model = _untrained(train, catalogue, vectors, config, 0 if asked is None else asked.shape[1])
        draft.facts |= about or {}
        if told and model.config.text_dim:
            draft.facts["text_model"] = told
        if start:
            draft.facts["warm_start"] = start.into(model, catalogue)
            before = sketch_of(start.model)
            learnt_from = learnt_from.joined(before) if learnt_from and before else learnt_from or before
        model.config.learnt_from = learnt_from.to_list() if learnt_from else []
        model.config.save_pretrained(draft.folder)  # not trained, whoever opens the folder meanwhile
        run = Run(model, train, held_out, config, device, asked, fresh=start is None)
        checkpoints = Checkpoints(draft.folder)
        with tracking(draft.folder / "logs", log_to, tracker) as run.tracker:
            state = run.train(checkpoints, progress)
            checkpoints.load_best(state, run.model.eval())
            if config.calibrate:
                with state.spending():
                    calibrate(run.model, train, held_out, cpu_seconds=run.calibration_seconds)
            validated = _validated(run.model, held_out)
            run.refresh(tokens, state, progress)
        run.model.tower.settle()
        if config.refresh:
            run.model.calibration.follow(popularity(tokens, run.model.n_items).to(device))
        run.model.config.trained = True
        with quiet_transformers():
            run.model.save_pretrained(draft.folder)
        draft.facts |= run.facts(state) | validated
        record = {"settings": settings, "inputs": inputs, "facts": draft.facts, "versions": package_versions()}
        write_card(draft.folder, Path(out).name, **record)
        shutil.rmtree(checkpoints.folder)
    return load_encoder(out, device=device)


def _validated(model: ShopSessionModel, held_out: Tokens) -> dict[str, Any]:
    """Recall and reciprocal rank of the next item with intervals, all items ranked, on the latest of the sessions."""
    latest = held_out.part(np.arange(max(len(held_out) - _VALIDATED, 0), len(held_out)))
    try:
        found = next_item_metrics(encoder_scorer(model), latest)
    except EvidenceError:  # nothing was chosen after a first token
        return {}
    figures = {
        f"recall@{found.k}": (found.recall, *found.recall_interval),
        f"mrr@{found.k}": (found.mrr, *found.mrr_interval),
    }
    rounded = {name: [round(value, 4) for value in row] for name, row in figures.items()}
    return {"validation": {**rounded, "predictions": found.predictions, "sessions": found.sessions}}


def _about(log: ShopLog) -> dict[str, Any]:
    """When the sessions were, and what kind of log they come from."""
    begun = log.sessions["start"]
    about = {"source": log.facts.get("source")}
    if len(begun):
        about |= {"first_session": f"{begun.min():%Y-%m-%d}", "last_session": f"{begun.max():%Y-%m-%d}"}
    return about


def _check(tokens: Tokens, catalogue: Catalogue) -> None:
    if len(tokens) < _FEWEST_SESSIONS:
        raise EvidenceError(f"pretraining needs {_FEWEST_SESSIONS} sessions at least, the log has {len(tokens)}")
    if not item_counts(tokens, catalogue.n_items).any():
        raise EvidenceError(f"none of {len(tokens)} sessions has an item that the shopper chose")


def _parts(tokens: Tokens, held_out: float) -> tuple[Tokens, Tokens]:
    """The sessions to learn from, and the latest, a share `held_out` of all, at least one."""
    cut = min(round(len(tokens) * (1 - held_out)), len(tokens) - 1)
    order = np.arange(len(tokens))
    return tokens.part(order[:cut]), tokens.part(order[cut:])


def _query_vectors(
    queries: Sequence[str] | Floats | None, text: TextEncoder | Floats, progress: Report | None
) -> Floats:
    """(Q + 1, E) text vectors of the searches, row 0 zero."""
    if isinstance(queries, np.ndarray):
        vectors = queries[1:]
    elif isinstance(text, TextEncoder):
        vectors = text.encode(list(queries or [""])[1:], progress)
    else:
        raise ValueError("texts of searches need a text encoder; give their vectors as you gave the items'")
    return np.concatenate([np.zeros_like(vectors[:1]), vectors]).astype(np.float32)


def _untrained(
    train: Tokens, catalogue: Catalogue, vectors: Floats, config: PretrainConfig, query_dim: int
) -> ShopSessionModel:
    seen = item_counts(train, catalogue.n_items) > 0
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(config.seed)
        settings = config.model(n_seen=int(seen.sum()), query_dim=query_dim)
        return ShopSessionModel.for_catalogue(settings, catalogue, vectors, seen)


def _content(tokens: Tokens, catalogue: Catalogue, queries: Sequence[str] | Floats | None) -> str:
    """A hash of all that pretraining reads of a log."""
    digest = hashlib.sha256(" ".join(EVENT_CODES).encode())
    parts: list[Ints | Floats] = [tokens.items, tokens.events, tokens.gaps, tokens.offsets, catalogue.known_prices]
    if tokens.queries is not None:
        parts.append(tokens.queries)
        digest.update(b"" if isinstance(queries, np.ndarray) else "\0".join(queries or ()).encode())
    for part in parts:
        digest.update(np.ascontiguousarray(part).tobytes())
    digest.update("\0".join([*catalogue.item_ids[1:], *catalogue.texts()]).encode())
    return digest.hexdigest()[:16]
