"""Candidates of large catalogues: near what exact search finds, and never what may not be shown."""

from typing import Any

import numpy as np
import pytest
import torch
from torch.nn.functional import normalize

from slatewise.agents import DQNConfig, LearnedPolicy, PPOConfig, scorers
from slatewise.agents.plackett_luce import seeded
from slatewise.agents.retrieval import InvertedLists
from slatewise.agents.scorers import SCORERS, SlateScorer
from slatewise.agents.slate_choice import NEVER

DIM = 16


def clustered(items: int, clusters: int = 40, seed: int = 0) -> torch.Tensor:
    rng = seeded(seed)
    centres = torch.randn(clusters, DIM, generator=rng)
    drawn = centres[torch.randint(clusters, (items,), generator=rng)] + 0.6 * torch.randn(items, DIM, generator=rng)
    return normalize(drawn, dim=1)


def states_near(vectors: torch.Tensor, rows: int = 30) -> torch.Tensor:
    rng = seeded(7)
    chosen = vectors[torch.randint(len(vectors), (rows,), generator=rng)]
    return normalize(chosen + 0.1 * torch.randn(rows, DIM, generator=rng), dim=1)


def test_all_lists_together_find_what_exact_search_finds() -> None:
    vectors = clustered(3_000)
    states = states_near(vectors)
    index = InvertedLists(vectors, torch.ones(3_000, dtype=torch.bool), share=1.0)
    assert index.search(states, 50).tolist() == (states @ vectors.T).topk(50).indices.tolist()


def test_a_tenth_of_the_lists_finds_nearly_all_of_the_nearest() -> None:
    vectors = clustered(20_000)
    states = states_near(vectors)
    found = InvertedLists(vectors, torch.ones(20_000, dtype=torch.bool), share=0.1).search(states, 200)
    exact = (states @ vectors.T).topk(10).indices
    recall = np.mean([len(set(a) & set(b)) / 10 for a, b in zip(found.tolist(), exact.tolist(), strict=True)])
    assert recall > 0.95
    scores = (states @ vectors.T).gather(1, found)
    assert (scores.diff(dim=1) <= 1e-6).all()  # best first


def test_what_may_not_be_shown_is_never_found_and_enough_lists_are_looked_through() -> None:
    vectors, available = clustered(2_000), torch.arange(2_000) % 3 > 0
    index = InvertedLists(vectors, available, share=0.01)
    found = index.search(states_near(vectors), 1_000)  # far more than one list holds
    assert available[found].all()
    assert (found.sort(1).values.diff(dim=1) > 0).all()
    everything = index.search(states_near(vectors), int(available.sum()))
    assert everything.shape == (30, len(index))
    with pytest.raises(ValueError, match="may be shown"):
        index.search(states_near(vectors), 2_000)
    with pytest.raises(ValueError, match="share"):
        InvertedLists(vectors, available, share=0.0)


def scorer_of(vectors: torch.Tensor, kind: str, candidates: int) -> SlateScorer:
    scorer = SCORERS[kind](DIM, len(vectors) - 1, 5, hidden=8, scale=5.0, max_candidates=candidates)
    scorer.set_items(vectors)
    return scorer.eval().requires_grad_(False)


@pytest.mark.parametrize("kind", sorted(SCORERS))
def test_large_catalogues_are_ranked_among_what_the_index_finds(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    vectors = torch.cat([torch.zeros(1, DIM), clustered(4_000)])
    scorer, states = scorer_of(vectors, kind, 300), states_near(vectors[1:])
    exact = scorer.slates(states)
    monkeypatch.setattr(scorers, "APPROXIMATE_ABOVE", 1_000)
    found = scorer.slates(states)
    assert (found == exact).float().mean() > 0.9  # untrained, it ranks by nearness
    served = LearnedPolicy(scorer).predict(states.numpy())[0]
    assert served.tolist() == exact.tolist() == scorer(states).topk(5).indices.tolist()  # what is served is exact
    drawn = scorer.slates(states, seeded(0))
    assert (drawn.sort(1).values.diff(dim=1) > 0).all()
    gone = torch.ones(4_001, dtype=torch.bool)
    gone[exact[:, 0]] = False
    scorer.set_items(vectors, gone)  # the index must follow
    assert gone[scorer.slates(states)].all()
    scorer.available.fill_(True)
    scorer.available[0] = False
    assert (scorer.slates(states)[:, 0] == found[:, 0]).all()


@pytest.mark.parametrize("kind", sorted(SCORERS))
def test_scores_of_a_batch_are_those_of_each_alone(kind: str) -> None:
    """Candidates are scored one way for few shoppers and another way for many."""
    vectors = torch.cat([torch.zeros(1, DIM), clustered(500)])
    scorer, states = scorer_of(vectors, kind, 60), states_near(vectors[1:])
    whole = scorer(states)
    for row in range(3):
        torch.testing.assert_close(scorer(states[row : row + 1]), whole[row : row + 1], rtol=1e-4, atol=1e-4)
    assert (whole[:, 0] == NEVER).all()
    torch.testing.assert_close(whole.topk(5).indices, scorer.slates(states))


@pytest.mark.parametrize("algorithm", ["ppo", "dqn"])
def test_fifty_thousand_items_are_learnt_over(taste_shop: Any, algorithm: str) -> None:
    env = taste_shop(n_items=50_000, dim=16)
    config: Any = (
        PPOConfig(rollout=128, n_epochs=1, hidden=16, max_candidates=100)
        if algorithm == "ppo"
        else DQNConfig(learning_starts=128, hidden=16, max_candidates=100, batch_size=32)
    )
    agent = config.build(env, item_vectors=env.item_vectors, seed=0).learn(512)
    slates = agent.predict(env.states, deterministic=True)[0]
    near = np.argsort(-(env.states @ env.item_vectors.T), axis=1)[:, :100]
    assert all(set(slate) <= set(row.tolist()) for slate, row in zip(slates, near, strict=True))
