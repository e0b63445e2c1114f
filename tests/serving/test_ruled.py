"""Rules in bundles: the server's slates keep them, and are those that the trained policy shows under them."""

import itertools
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch.nn.functional import normalize

from slatewise.agents import LearnedPolicy
from slatewise.agents.rules import RuledPolicy, RuledValues, caps_of, pick_by_rules
from slatewise.agents.scorers import SCORERS
from slatewise.agents.slate_choice import NEVER
from slatewise.datasets.catalogue import Catalogue
from slatewise.datasets.log import ShopLog
from slatewise.datasets.rules import SlateRules
from slatewise.encoders.mean import MeanEncoder
from slatewise.errors import BundleError
from slatewise.serving import Bundle, Filters, Runtime, ShopperEvent
from slatewise.serving.export import write_bundle
from slatewise.serving.ruled import RulesAtWork
from slatewise.serving.sampling import top_k
from slatewise.serving.valued import best_scores

K = 5
RULES = SlateRules(most_of_category=3, most_of_brand=2, max_price=70.0, max_similarity=0.6, hide_brands=("brand-3",))


def vectors_of(catalogue: Catalogue, seed: int = 0) -> torch.Tensor:
    vectors = torch.randn(catalogue.n_items + 1, 8, generator=torch.Generator().manual_seed(seed))
    vectors[0] = 0
    return normalize(vectors, dim=1)


@pytest.mark.parametrize(
    "rules",
    [
        RULES,
        SlateRules(),
        SlateRules(most_of_brand=2),
        SlateRules(max_similarity=-0.1),
        SlateRules(most_of_category=1, min_price=20.0),
    ],
)
def test_the_server_fills_slots_as_agents_do(catalogue: Catalogue, rules: SlateRules) -> None:
    vectors = vectors_of(catalogue)
    scores = torch.randn(200, catalogue.n_items + 1, generator=torch.Generator().manual_seed(1))
    scores[:, 0] = NEVER
    allowed = torch.from_numpy(rules.allowed(catalogue))
    similar = 1.0 if rules.max_similarity is None else rules.max_similarity
    used = None if rules.max_similarity is None else vectors
    theirs = pick_by_rules(scores.masked_fill(~allowed, NEVER), K, caps_of(rules, catalogue), used, similar)
    work = RulesAtWork(rules, catalogue, vectors.numpy())
    shorter = 0
    for row, slate in zip(scores.double().numpy(), theirs.numpy(), strict=True):
        row[0] = -np.inf
        found = work.best(row, K)
        np.testing.assert_array_equal(found, slate[slate > 0])
        shorter += len(found) < K
    assert (shorter > 0) == (rules.most_of_category == 1 or rules.max_similarity == -0.1)


def test_draws_under_rules_tell_their_chances(catalogue: Catalogue) -> None:
    rules = SlateRules(most_of_category=1)  # odd and even numbers: two places at most
    work = RulesAtWork(rules, catalogue, vectors_of(catalogue).numpy())
    logits = np.full(catalogue.n_items + 1, -np.inf)
    logits[1:6] = [0.0, 1.0, -1.0, 0.5, 2.0]
    weight = np.exp(logits)
    rng = np.random.default_rng(0)
    counts: Counter[tuple[int, ...]] = Counter()
    for _ in range(20_000):
        items, chances = work.draw(logits, 4, rng)
        first, second = items.tolist()
        assert (first - second) % 2 == 1
        left = weight.copy()
        left[first % 2 :: 2] = 0
        np.testing.assert_allclose(chances, [weight[first] / weight.sum(), weight[second] / left.sum()])
        counts[first, second] += 1
    for first, second in itertools.permutations(range(1, 6), 2):
        if (first - second) % 2:
            left = weight.copy()
            left[first % 2 :: 2] = 0
            chance = weight[first] / weight.sum() * weight[second] / left.sum()
            assert counts[first, second] / 20_000 == pytest.approx(chance, abs=4 * np.sqrt(chance / 20_000))


def ruled_bundle(kind: str, encoder: MeanEncoder, log: ShopLog, out: Path) -> Bundle:
    torch.manual_seed(3)
    n, dim = log.catalogue.n_items, encoder.dim
    scorer = SCORERS[kind](dim, n, K, hidden=8, scale=3.0, max_candidates=1_000)
    scorer.set_items(encoder.item_vectors, log.catalogue.available)
    with torch.no_grad():
        for weight in scorer.parameters():
            weight.add_(0.3 * torch.randn_like(weight))
    policy = RuledPolicy(LearnedPolicy(scorer), RULES, log.catalogue)
    assert policy.scorer is not None
    more: dict[str, Any] = {"settings": {"kind": kind}, "inputs": {}, "histories": 80}
    return write_bundle(
        out, encoder, policy.scorer, log, k=K, predict=lambda state: policy.predict(state)[0], rules=RULES, **more
    )


@pytest.fixture(scope="module", params=["plackett-luce", "slateq"])
def bundle(
    request: pytest.FixtureRequest, encoder: MeanEncoder, log: ShopLog, tmp_path_factory: pytest.TempPathFactory
) -> Bundle:
    return ruled_bundle(request.param, encoder, log, tmp_path_factory.mktemp("ruled") / "bundle")


def test_served_slates_are_those_of_the_policy_under_rules(bundle: Bundle) -> None:
    parity = bundle.record["parity"]
    assert (parity["different"], parity["histories"]) == (0, 80)
    assert parity["equal"] > 70
    assert bundle.rules == RULES
    assert bundle.record["schema"] == 2
    card = (bundle.folder / "README.md").read_text()
    assert "| rules every slate keeps | most_of_category: 3, most_of_brand: 2" in card


def test_rules_that_this_version_does_not_know_are_told(bundle: Bundle) -> None:
    later = replace(bundle, record={**bundle.record, "rules": {"least_of_brand": 1}})
    with pytest.raises(BundleError, match="there is no rule 'least_of_brand'"):
        Runtime(later)


@pytest.mark.parametrize("explore", [0.0, 0.5])
@pytest.mark.parametrize("filters", [None, Filters(categories=("even",), max_price=60.0)])
@pytest.mark.parametrize("k", [K, 9])
def test_every_slate_served_keeps_rules_and_filters(
    bundle: Bundle, explore: float, filters: Filters | None, k: int
) -> None:
    runtime, frame = Runtime(bundle), bundle.catalogue.frame
    for seed in range(15):
        events = [ShopperEvent(f"item-{1 + (7 * seed + step) % 40}", "view", time=step) for step in range(seed % 4)]
        slate = runtime.recommend(events, k, filters=filters, explore=explore, rng=np.random.default_rng(seed))
        rows, vectors = frame.iloc[slate.items - 1], bundle.item_vectors[slate.items]
        assert len(slate) > 0
        assert len(set(slate.items.tolist())) == len(slate)
        assert rows["category"].value_counts().max() <= 3
        assert rows["brand"].value_counts().max() <= 2
        assert (rows["price"] <= (70 if filters is None else 60)).all()
        assert "brand-3" not in set(rows["brand"])
        assert (vectors @ vectors.T)[~np.eye(len(rows), dtype=bool)].max(initial=-1) <= 0.6 + 1e-6
        assert filters is None or set(rows["category"]) == {"even"}
        assert all(0 < place.propensity <= 1 for place in slate)
        if len(slate) < k:
            assert slate.notice is not None
            assert "rules, filters, exclusions" in slate.notice


@pytest.mark.parametrize("rules", [RULES, SlateRules(), SlateRules(most_of_category=3)])
def test_scores_from_values_are_those_of_the_trained_policy(catalogue: Catalogue, rules: SlateRules) -> None:
    torch.manual_seed(0)
    vectors = vectors_of(catalogue)
    scorer = SCORERS["slateq"](8, catalogue.n_items, K, hidden=8, scale=3.0, max_candidates=1_000)
    scorer.set_items(vectors, catalogue.available)
    with torch.no_grad():
        for weight in scorer.parameters():
            weight.add_(0.2 * torch.randn_like(weight))
    ruled = RuledPolicy(LearnedPolicy(scorer), rules, catalogue).scorer
    assert isinstance(ruled, RuledValues)
    states = normalize(torch.randn(60, 8), dim=1)
    with torch.no_grad():
        wanted, parts = ruled(states).numpy(), [part.double().numpy() for part in ruled.parts(states)]
    work = RulesAtWork(rules, catalogue, vectors.numpy())
    differing = 0
    for row in range(60):
        utility, gain, outside = (part[row] for part in parts[:3])
        found = best_scores(utility, gain, float(outside), parts[3], utility > NEVER / 2, work.best)
        showable = wanted[row] > NEVER / 2
        assert (np.isfinite(found) == showable).all()
        np.testing.assert_array_equal(work.best(found, K), ruled.slates(states[row : row + 1]).numpy()[0])
        told = showable & (wanted[row] > -10)  # logarithms of less are rounding
        assert told.any()
        np.testing.assert_allclose(found[told], wanted[row][told], atol=2e-3)
        unruled = best_scores(utility, gain, float(outside), parts[3], utility > NEVER / 2, top_k)
        differing += not np.allclose(found[showable], unruled[showable], atol=1e-2)
    assert (differing > 0) == (rules != SlateRules())  # so the iteration must know the rules
