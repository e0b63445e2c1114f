"""Scorers: they start as the encoder ranks, their catalogue can be swapped, and they export."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch.nn.functional import normalize

from slatewise.agents.plackett_luce import seeded
from slatewise.agents.scorers import SCORERS, PairScorer, SlateQScorer, SlateScorer
from slatewise.agents.slate_choice import NEVER

DIM, N, K = 8, 40, 5
KINDS = [*sorted(SCORERS), "slateq, shown_value"]


def unit(rows: int, seed: int = 0) -> torch.Tensor:
    return normalize(torch.randn(rows, DIM, generator=seeded(seed)), dim=1)


def make(kind: str, max_candidates: int = 1_000, *, trained: bool = True) -> SlateScorer:
    torch.manual_seed(0)
    name, _, shown = kind.partition(", ")
    more: dict[str, Any] = {"shown_value": True} if shown else {}
    scorer = SCORERS[name](DIM, N, K, hidden=16, scale=5.0, max_candidates=max_candidates, **more)
    vectors = unit(N + 1)
    vectors[0] = 0
    scorer.set_items(vectors, torch.arange(N + 1) % 7 != 3)
    if trained:  # as training would: every layer away from zero
        with torch.no_grad():
            for weight in scorer.parameters():
                weight.add_(0.1 * torch.randn_like(weight))
    return scorer.eval().requires_grad_(False)


@pytest.mark.parametrize("kind", KINDS)
def test_an_untrained_scorer_ranks_as_the_encoder_does(kind: str) -> None:
    scorer, state = make(kind, trained=False), unit(30, 1)
    nearest = (state @ scorer.item_vectors.T).masked_fill(~scorer.available, -9).topk(K).indices
    assert scorer.slates(state).tolist() == nearest.tolist()


@pytest.mark.parametrize("kind", KINDS)
def test_slates_hold_only_available_items_and_never_the_padding(kind: str) -> None:
    scorer = make(kind)
    slates = scorer.slates(unit(200, 1))
    assert scorer.available[slates].all()
    assert (slates.sort(1).values.diff(dim=1) > 0).all()
    assert (scorer(unit(3))[:, ~scorer.available] == NEVER).all()


@pytest.mark.parametrize("kind", KINDS)
def test_a_grown_catalogue_keeps_the_scores_of_old_items(kind: str) -> None:
    scorer, state = make(kind), unit(6, 1)
    before = scorer(state)[:, scorer.available]
    scorer.set_items(
        torch.cat([scorer.item_vectors, unit(10, 3)]), torch.cat([scorer.available, torch.zeros(10).bool()])
    )
    torch.testing.assert_close(scorer(state)[:, scorer.available], before)
    assert scorer.n_items == N + 10


@pytest.mark.parametrize("kind", KINDS)
def test_beyond_the_candidates_items_rank_by_nearness(kind: str) -> None:
    scorer, state = make(kind, max_candidates=12), unit(4, 1)
    scores, near = scorer(state), (state @ scorer.item_vectors.T).masked_fill(~scorer.available, NEVER)
    candidates = scorer.candidates(state)
    assert candidates is not None
    assert candidates.shape == (4, 12)
    for row in range(4):
        order = scores[row].argsort(descending=True).tolist()
        assert set(order[:12]) == set(candidates[row].tolist())
        others = [item for item in near[row].argsort(descending=True).tolist() if item not in order[:12]]
        assert order[12 : int(scorer.available.sum())] == others[: int(scorer.available.sum()) - 12]


@pytest.mark.parametrize("wide", [True, False])
def test_scores_at_some_items_are_those_of_the_whole_table(wide: bool) -> None:
    scorer, state = make("plackett-luce"), unit(20 if wide else 2, 1)
    items = torch.randint(1, N + 1, (len(state), 6), generator=seeded(0))
    pair = scorer.pair
    assert isinstance(pair, PairScorer)
    torch.testing.assert_close(
        pair.at(state, scorer.item_vectors, items), pair(state, scorer.item_vectors).gather(1, items)
    )


def test_slot_effects_never_rise() -> None:
    scorer = make("slateq")
    assert isinstance(scorer, SlateQScorer)
    place = scorer.place
    assert place[0] == 0
    assert (place.diff() <= 0).all()


@pytest.mark.parametrize(
    ("vectors", "available", "words"),
    [
        (np.zeros((9, DIM + 1)), None, "as wide as the state"),
        (np.full((9, DIM), np.nan), None, "not finite"),
        (np.zeros((9, DIM)), np.ones(8), "one entry a row"),
        (np.zeros((9, DIM)), np.arange(9) < 4, "only 3 items"),
    ],
)
def test_a_catalogue_that_does_not_fit_is_refused(
    vectors: np.ndarray, available: np.ndarray | None, words: str
) -> None:
    with pytest.raises(ValueError, match=words):
        make("slateq").set_items(vectors, available)


@pytest.mark.parametrize(("kind", "max_candidates"), [("plackett-luce", 12), ("slateq", 1_000), (KINDS[-1], 1_000)])
@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")
def test_a_scorer_exports_to_onnx_and_scores_the_same_there(kind: str, max_candidates: int, tmp_path: Path) -> None:
    onnxruntime = pytest.importorskip("onnxruntime")
    pytest.importorskip("onnxscript")
    scorer, path = make(kind, max_candidates), tmp_path / "scorer.onnx"
    batch = {0: torch.export.Dim("batch")}
    torch.onnx.export(
        scorer,
        (unit(2),),
        path,
        input_names=["state"],
        output_names=["scores"],
        dynamic_shapes=(batch,),
        dynamo=True,
        verbose=False,
    )
    state = unit(17, 2)
    (scores,) = onnxruntime.InferenceSession(path).run(None, {"state": state.numpy()})
    found, best = torch.from_numpy(scores).topk(K), scorer(state).topk(K)
    torch.testing.assert_close(found.values, best.values, rtol=1e-3, atol=1e-3)
    assert found.indices.tolist() == best.indices.tolist()
