"""Rules of the shop: kept by every slate, and at no more cost than they must."""

import itertools
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from torch.nn.functional import normalize

from slatewise.agents import LearnedPolicy, NextItemPolicy, RandomPolicy, RuledPolicy, SlateRules
from slatewise.agents.plackett_luce import seeded, slot_log_probs
from slatewise.agents.rules import caps_of, pick_by_rules
from slatewise.agents.scorers import SCORERS, SlateQScorer
from slatewise.agents.slate_choice import NEVER, best_slate, slate_value
from slatewise.datasets.catalogue import Catalogue
from slatewise.testing.batteries import check_policy

N, DIM, K = 24, 6, 4


@pytest.fixture(scope="module")
def catalogue() -> Catalogue:
    number = np.arange(N)
    return Catalogue(
        pd.DataFrame(
            {
                "item_id": [f"i{one}" for one in number],
                "text": "",
                "category": [["shoes", "hats", "socks", ""][one % 4] for one in number],
                "brand": [["a", "b", "c", "d", "e"][one % 5] for one in number],
                "price": np.where(number == 7, np.nan, 1.0 + number),
                "available": True,
            }
        )
    )


def policy(kind: str, max_candidates: int = 1_000, seed: int = 0, **more: Any) -> LearnedPolicy:
    torch.manual_seed(seed)
    scorer = SCORERS[kind](DIM, N, K, hidden=8, scale=3.0, max_candidates=max_candidates, **more)
    vectors = normalize(torch.randn(N + 1, DIM, generator=seeded(seed)), dim=1)
    vectors[0] = 0
    scorer.set_items(vectors)
    with torch.no_grad():
        for weight in scorer.parameters():
            weight.add_(0.2 * torch.randn_like(weight))
    return LearnedPolicy(scorer)


STATES = normalize(torch.randn(50, DIM, generator=seeded(9)), dim=1).numpy()


@pytest.mark.parametrize("kind", sorted(SCORERS))
@pytest.mark.parametrize("deterministic", [True, False])
@pytest.mark.parametrize("candidates", [10, 1_000])
def test_every_slate_keeps_the_rules(kind: str, deterministic: bool, candidates: int, catalogue: Catalogue) -> None:
    rules = SlateRules(most_of_category=2, most_of_brand=2, min_price=3.0, max_price=20.0, max_similarity=0.8)
    one = policy(kind, candidates)
    slates = RuledPolicy(one, rules, catalogue).predict(STATES, deterministic=deterministic)[0]
    vectors = one.scorer.item_vectors.numpy()
    assert (slates > 0).mean() > 0.9
    for slate in slates:
        held = slate[slate > 0]
        rows = catalogue.frame.iloc[held - 1]
        assert len(set(held.tolist())) == len(held)
        assert rows["category"][rows["category"] != ""].value_counts().max() <= 2
        assert rows["brand"].value_counts().max() <= 2
        assert rows["price"].between(3, 20).all()
        alike = vectors[held] @ vectors[held].T
        assert alike[~np.eye(len(held), dtype=bool)].max() <= 0.8


def worth_of(scorer: SlateQScorer, slates: torch.Tensor) -> torch.Tensor:
    """(50,) what slates are worth in `STATES`."""
    states = torch.from_numpy(STATES)
    utility, gain = (part.at(states, scorer.item_vectors, slates) for part in (scorer.choice, scorer.gain))
    return slate_value(utility, gain, scorer.outside(states), scorer.place)


@pytest.mark.parametrize("kind", sorted(SCORERS))
def test_rules_that_ask_nothing_change_nothing(kind: str, catalogue: Catalogue) -> None:
    one = policy(kind)
    ruled = RuledPolicy(one, SlateRules(), catalogue)
    found, wanted = ruled.predict(STATES)[0], one.predict(STATES)[0]
    np.testing.assert_array_equal(found, wanted)
    assert ruled.predict(STATES[0])[0].shape == (K,)
    check_policy(ruled, STATES, N)


def test_under_one_cap_no_slate_that_keeps_it_is_better() -> None:
    group, place = torch.tensor([0, 1, 1, 1, 2, 2, 3, 3]), -0.4 * torch.arange(3.0)
    behind = 0
    for seed in range(40):
        rng = seeded(seed)
        utility, gain = 2 * torch.randn(1, 8, generator=rng), 2 * torch.randn(1, 8, generator=rng) + 0.5
        outside, allowed = torch.randn(1, generator=rng), torch.arange(8) > 0

        def pick(worth: torch.Tensor) -> torch.Tensor:
            return pick_by_rules(worth, 3, [(group, 1)])

        def value(slate: Any, case: Any = (utility, gain, outside)) -> float:
            columns = torch.tensor([slate])
            return slate_value(case[0].gather(1, columns), case[1].gather(1, columns), case[2], place).item()

        best = best_slate(utility, gain, outside, place, allowed, pick=pick)
        kept = [one for one in itertools.permutations(range(1, 8), 3) if len(set(group[list(one)].tolist())) == 3]
        top = max(value(one) for one in kept)
        assert value(best.slate[0].tolist()) == pytest.approx(top, abs=1e-5)
        assert best.value.item() == pytest.approx(top, abs=1e-5)
        afterwards = pick(best_slate(utility, gain, outside, place, allowed).worth)  # rules after the unruled best
        behind += value(afterwards[0].tolist()) < top - 1e-4
    assert behind > 3  # so the iteration must know the rules


def test_a_slate_of_values_is_the_best_that_keeps_a_cap(catalogue: Catalogue) -> None:
    one = policy("slateq")
    scorer = one.scorer
    assert isinstance(scorer, SlateQScorer)
    rules = SlateRules(most_of_brand=1)
    slates = torch.from_numpy(RuledPolicy(one, rules, catalogue).predict(STATES)[0])
    (group, most), *_ = caps_of(rules, catalogue)
    found = worth_of(scorer, slates)
    rng = np.random.default_rng(0)
    for _ in range(200):
        other = torch.from_numpy(np.stack([rng.permutation(np.arange(1, N + 1)) for _ in STATES]))
        other = pick_by_rules(-other.argsort(1).float(), K, [(torch.cat([group[1:]]), most)]) + 1
        assert (worth_of(scorer, other) <= found + 1e-5).all()


def test_what_is_worth_something_by_being_shown_keeps_rules_by_its_scores(catalogue: Catalogue) -> None:
    one, states = policy("slateq", shown_value=True), {"state": STATES}
    free = RuledPolicy(one, SlateRules(), catalogue)
    assert free.predict(states)[0].tolist() == one.predict(states)[0].tolist()
    capped = RuledPolicy(one, SlateRules(most_of_category=1), catalogue)
    assert capped.scorer is not None
    scores = capped.scorer(torch.from_numpy(STATES))
    assert capped.predict(states)[0].tolist() == capped.pick(scores).tolist()
    labels = catalogue.frame["category"].to_numpy()[capped.predict(states)[0] - 1]
    assert all(len(set(row[row != ""])) == (row != "").sum() for row in labels)  # without a label, of none


def test_random_slots_are_drawn_among_what_is_still_allowed(catalogue: Catalogue) -> None:
    one = policy("plackett-luce")
    ruled = RuledPolicy(one, SlateRules(most_of_category=1, max_price=6.0), catalogue)
    slates, _ = ruled.predict(np.repeat(STATES[:1], 40_000, axis=0), deterministic=False)
    # Items 1 to 6: categories shoes 1 5, hats 2 6, socks 3, none 4. After a shoe, the other one is out.
    logits = one.scorer(torch.from_numpy(STATES[:1]))[:, 1:7]
    first = slot_log_probs(logits, torch.tensor([[0, 1]])).exp()[0, 0]
    weight = logits[0].exp()
    second = weight[1] / (weight.sum() - weight[0] - weight[4])
    share = ((slates[:, 0] == 1) & (slates[:, 1] == 2)).mean()
    assert share == pytest.approx(float(first * second), abs=0.01)


def test_slots_of_values_are_drawn_by_the_scores_that_a_server_draws_by(catalogue: Catalogue) -> None:
    ruled = RuledPolicy(policy("slateq"), SlateRules(most_of_category=1, max_price=6.0), catalogue)
    assert ruled.scorer is not None
    slates, _ = ruled.predict(np.repeat(STATES[-1:], 20_000, axis=0), deterministic=False)
    chances = ruled.scorer(torch.from_numpy(STATES[-1:])).softmax(1)[0].detach().numpy()
    shares = np.bincount(slates[:, 0], minlength=N + 1) / len(slates)
    np.testing.assert_allclose(shares, chances, atol=0.015)


def test_baselines_keep_rules_too(catalogue: Catalogue) -> None:
    vectors = policy("plackett-luce").scorer.item_vectors
    plain = NextItemPolicy(vectors, K, np.arange(N + 1) != 2)
    slates = RuledPolicy(plain, SlateRules(most_of_brand=1), catalogue).predict(STATES)[0]
    brands = catalogue.frame["brand"].to_numpy()[slates - 1]
    assert all(len(set(row)) == K for row in brands)
    assert 2 not in slates


def test_slots_are_left_empty_where_rules_leave_nothing() -> None:
    scores = torch.tensor([[NEVER, 3.0, 2.0, 1.0]])
    assert pick_by_rules(scores, 3, [(torch.tensor([0, 1, 1, 2]), 1)]).tolist() == [[1, 3, 0]]
    assert pick_by_rules(scores, 3, [(torch.tensor([0, 0, 0, 2]), 1)]).tolist() == [[1, 2, 3]]  # no group, no cap


@pytest.mark.parametrize(
    ("rules", "words"),
    [
        ({"most_of_category": 0}, "most_of_category"),
        ({"min_price": 9.0, "max_price": 3.0}, "no price"),
        ({"max_similarity": 2.0}, "max_similarity"),
        ({"max_price": 2.5}, "leave 2 items"),
    ],
)
def test_rules_that_cannot_be_kept_are_refused(rules: dict[str, Any], words: str, catalogue: Catalogue) -> None:
    with pytest.raises(ValueError, match=words):
        RuledPolicy(policy("slateq"), SlateRules(**rules), catalogue)


def test_what_rules_need_is_asked_for(catalogue: Catalogue) -> None:
    with pytest.raises(ValueError, match="gives no scores"):
        RuledPolicy(RandomPolicy(np.ones(N + 1), K), SlateRules(), catalogue)
    plain = NextItemPolicy(np.eye(N + 1, DIM), K)
    with pytest.raises(ValueError, match="item_vectors"):
        RuledPolicy(plain, SlateRules(max_similarity=0.5), catalogue)
    same = catalogue.frame.assign(brand="one")
    with pytest.raises(ValueError, match="2 of 4 slots"):
        RuledPolicy(plain, SlateRules(most_of_brand=2), Catalogue(same))
