"""The graph of a bundle: history -> scores in ONNX, checked beside torch.

Shapes: B histories, T tokens, N items, D width of the state, K places.
"""

import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import torch
from torch import Tensor, nn

from ..agents.rules import RuledValues
from ..datasets.schema import N_EVENTS
from ..datasets.tokens import Floats, History
from ..encoders.state import StateEncoder
from ..errors import BundleError
from .runtime import INPUTS, PARTS, SCORES, UNSHOWABLE

OPSET = 20
TOLERANCE = 1e-3  # of nine in ten scores among the best; larger differences mean that another graph was exported
_LARGEST = 2_000_000_000  # bytes of one ONNX file


class Policy(nn.Module):
    """History -> scores: a state encoder, then a scorer; or, under rules, the parts of a SlateQ policy's scores."""

    def __init__(self, encoder: StateEncoder, scorer: nn.Module) -> None:
        super().__init__()
        self.encoder = encoder  # registered as a part if it is an nn.Module
        self.scorer = scorer
        self.eval()

    @property
    def outputs(self) -> tuple[str, ...]:
        """Names of what comes out."""
        return PARTS if isinstance(self.scorer, RuledValues) else SCORES

    def forward(self, items: Tensor, events: Tensor, gaps: Tensor, lengths: Tensor) -> Tensor | tuple[Tensor, ...]:
        """(B, N + 1) scores after (B, T) histories, -inf for the padding; or `RuledValues.parts`."""
        state = self.encoder.encode(items, events, gaps, lengths)
        if isinstance(self.scorer, RuledValues):
            return self.scorer.parts(state)
        scores = self.scorer(state)
        padding = torch.arange(scores.shape[1], device=scores.device) == 0
        return scores.masked_fill(padding, -torch.inf)

    @torch.no_grad()
    def tables(self, history: History) -> list[Floats]:
        """What comes out of the shape (B, N + 1), as torch works it out: scores, or utilities and gains."""
        found = self(*(torch.from_numpy(part) for part in _parts(history)))
        return [one.numpy() for one in ([found] if isinstance(found, Tensor) else found) if one.ndim == 2]


def export_policy(encoder: StateEncoder, scorer: nn.Module, path: str | Path, *, history_limit: int = 50) -> float:
    """Write `policy.onnx`: items, events (B, T) int64, gaps (B, T) float32, lengths (B,) int64 -> scores (B, N + 1).

    Batch and time are dynamic. The graph is checked by `onnx.checker` and run on random histories beside torch.

    Args:
        encoder: history -> state; on the CPU.
        scorer: (B, D) state -> (B, N + 1) scores whose top k is the greedy slate.
        path: the file to write.
        history_limit: longest random history to check.

    Returns:
        The largest absolute difference of scores between ONNX Runtime and torch, among the best items.

    Raises:
        BundleError: the graph is too large for one file, or disagrees with torch.
    """
    path, policy = Path(path), Policy(encoder, scorer)
    rng = np.random.default_rng(0)
    sample = random_histories(rng, encoder.n_items, rows=2, width=3)
    policy.tables(sample)  # parts that are worked out at first use are constants of the graph
    batch, time, same = torch.export.Dim("batch"), torch.export.Dim("time"), torch.export.Dim.DYNAMIC
    wide, long = {0: batch, 1: time}, {0: same, 1: same}
    with _quietly(), torch.no_grad():
        torch.onnx.export(
            policy,
            tuple(torch.from_numpy(part) for part in _parts(sample)),
            path,
            input_names=list(INPUTS),
            output_names=list(policy.outputs),
            dynamic_shapes=(wide, long, long, {0: same}),
            opset_version=OPSET,
            external_data=False,
            dynamo=True,
            verbose=False,
        )
    if path.stat().st_size > _LARGEST:
        raise BundleError(f"{path} would be {path.stat().st_size} bytes, ONNX holds 2 GB; use narrower vectors")
    _name_sizes(path)
    widths = (1, history_limit // 2 + 1, history_limit)
    checked = [random_histories(rng, encoder.n_items, rows=8, width=width) for width in widths]
    differences = score_differences(path, policy, checked, best=getattr(scorer, "k", 10))
    typical = float(np.quantile(differences, 0.9))
    if not typical <= TOLERANCE:
        raise BundleError(f"{path} scores differ by {typical:.2g} from the trained policy's; please report this")
    return float(differences.max())


def _name_sizes(path: Path) -> None:
    """Name the sizes of all inputs alike, also of one that an encoder does not read, and check the graph."""
    graph = onnx.load(path)
    for one in graph.graph.input:
        for size, name in zip(one.type.tensor_type.shape.dim, ("batch", "time"), strict=False):
            size.dim_param = name
    onnx.checker.check_model(graph, full_check=True)
    onnx.save(graph, path)


def score_differences(path: Path, policy: Policy, histories: Sequence[History], best: int) -> Floats:
    """Absolute differences of scores between ONNX Runtime and torch, of each history's `best` items, end to end.

    Only those decide slates; further down, scores may be logarithms of next to nothing, where rounding shows.
    """
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    found = []
    for history in histories:
        tables = session.run(None, dict(zip(INPUTS, _parts(history), strict=True)))
        wanted = policy.tables(history)
        top = np.argsort(-wanted[0], axis=1)[:, :best]
        showable = np.take_along_axis(wanted[0], top, 1) > UNSHOWABLE
        for ours, theirs in zip(tables, wanted, strict=False):
            difference = np.take_along_axis(np.asarray(ours), top, 1) - np.take_along_axis(theirs, top, 1)
            found.append(np.abs(difference[showable]))
    return np.concatenate(found)


def random_histories(rng: np.random.Generator, n_items: int, rows: int, width: int) -> History:
    """Histories of random items, events and gaps, one of them empty and one of full length."""
    lengths = rng.integers(0, width + 1, rows)
    lengths[0], lengths[-1] = width, 0
    held = np.arange(width) < lengths[:, None]
    items = np.where(held, rng.integers(1, n_items + 1, held.shape), 0)
    events = np.where(held, rng.integers(1, N_EVENTS, held.shape), 0)
    gaps = np.where(held, rng.exponential(60.0, held.shape), 0).astype(np.float32)
    gaps[:, 0] = 0
    return History(items, events, gaps, lengths)


def _parts(history: History) -> tuple[np.ndarray, ...]:
    return history.items, history.events, history.gaps, history.lengths


@contextmanager
def _quietly() -> Iterator[None]:
    """Without the exporter's notes on parts that we do not use (torchvision) and graphs it leaves as they are."""
    loggers = [logging.getLogger(name) for name in ("torch.onnx._internal.exporter._registration", "onnxscript")]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)
