"""The study of long-term effects: its bounds are what they say, and its verdicts follow from its figures."""

import itertools
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

from slatewise.datasets import Catalogue, Event, KnownShop, KnownShopConfig
from slatewise.envs import RewardMix
from slatewise.evaluation import Outcomes
from slatewise.evaluation.diary import Diary
from slatewise.simulators import KnownTruthShopper

Load = Callable[[str], ModuleType]


def test_the_plan_for_patience_is_the_best_of_all_slates_tried(benchmark_module: Load) -> None:
    bounds, shops = benchmark_module("long_term_bounds"), benchmark_module("long_term_shops")
    settings = {**shops.SAME, "n_items": 6, "n_categories": 2, "n_brands": 3, "patience": 2, "letdown": 2.5}
    shopper = KnownTruthShopper(KnownShop.make(KnownShopConfig(**{**settings, "outside_option": 5.0})))
    reward, k, horizon = RewardMix(click=1.0, purchase=5.0), 2, 4
    chain = bounds.patience_chain(shopper, reward)
    plan = bounds.Planned(shopper, k, chain, horizon, stationary=False)
    start = shopper.reset(torch.zeros(1, dtype=torch.int64))
    slates = torch.tensor(list(itertools.combinations(range(1, 7), k)))
    many = shopper.reset(torch.zeros(len(slates), dtype=torch.int64))
    clicks = shopper.click_chances(many, slates).double()
    cart, purchase = shopper.funnel_chances(many, slates)
    earned = reward.click + reward.purchase * (cart * purchase).double()
    left = shopper.config.patience - shopper._letdown[slates]

    def tried(slots: int, patience: float) -> float:
        if slots == 0 or patience <= 1e-4:
            return 0.0
        stay = 1 - shopper.config.leave
        later = torch.tensor([[stay * tried(slots - 1, one) for one in row] for row in left.tolist()])
        none = stay * tried(slots - 1, patience - 1)
        return float(((clicks * (earned + later)).sum(1) + (1 - clicks.sum(1)) * none).max())

    assert plan.value[chain.where(start)].item() == pytest.approx(tried(horizon, 2.0), rel=1e-5)


@pytest.mark.parametrize("name", ["off", "patience", "complements"])
def test_plans_earn_what_they_foretell(name: str, benchmark_module: Load) -> None:
    study, shops = benchmark_module("long_term"), benchmark_module("long_term_shops")
    mechanism = shops.MECHANISMS[name]
    truth = mechanism.truth()
    plan = mechanism.plan(truth, mechanism.reward)
    start = plan._chain.where(truth.reset(torch.zeros(1, dtype=torch.int64)))
    outcomes, _ = study.judged({"plan": plan}, mechanism, truth, shops.eyes(truth), 800, 3)
    reward = outcomes.frame["reward"]
    assert abs(reward.mean() - plan.value[start].item()) < 4 * reward.std() / np.sqrt(len(reward))


def test_a_plan_over_visits_earns_what_it_foretells(benchmark_module: Load) -> None:
    study, shops = benchmark_module("long_term"), benchmark_module("long_term_shops")
    bounds, few = benchmark_module("long_term_bounds"), 3
    mechanism = replace(shops.MECHANISMS["return_visits"], env={"visits": True, "max_visits": few})
    truth = mechanism.truth()
    chain = bounds.visits_chain(truth, mechanism.reward, few)
    plan = bounds.Planned(truth, shops.K, chain, 100, stationary=True)
    outcomes, _ = study.judged({"plan": plan}, mechanism, truth, shops.eyes(truth), 800, 3)
    reward = outcomes.frame["reward"]
    assert abs(reward.mean() - plan.value[0].item()) < 4 * reward.std() / np.sqrt(len(reward))


def test_the_plan_for_satiation_beats_the_myopic_slates(benchmark_module: Load) -> None:
    study, shops = benchmark_module("long_term"), benchmark_module("long_term_shops")
    bounds, satiation = benchmark_module("long_term_bounds"), benchmark_module("long_term_satiation")
    mechanism = shops.MECHANISMS["satiation"]
    truth = mechanism.truth()
    plan = satiation.SatiationPlan(truth, shops.K, mechanism.reward, 12)
    policies = {"plan": plan, "myopic": bounds.MixPolicy(truth, shops.K, mechanism.reward)}
    outcomes, _ = study.judged(policies, mechanism, truth, shops.eyes(truth), 600, 3)
    earned = outcomes.frame.pivot(index="shopper", columns="policy", values="reward")
    better = earned["plan"] - earned["myopic"]
    assert better.mean() > 2 * better.std() / np.sqrt(len(better))


def test_nothing_but_chance_ends_a_visit_where_all_is_off(benchmark_module: Load) -> None:
    study, shops = benchmark_module("long_term"), benchmark_module("long_term_shops")
    bounds, mechanism = benchmark_module("long_term_bounds"), shops.MECHANISMS["off"]
    truth = mechanism.truth()
    policies: dict[str, Any] = {
        name: bounds.MixPolicy(truth, shops.K, RewardMix(**mix))
        for name, mix in {"clicks": {"click": 1.0}, "dear": {"revenue": 1.0}, "dull": {"click": -1.0}}.items()
    }
    outcomes, _ = study.judged(policies, mechanism, truth, shops.eyes(truth), 200, 3)
    slates = outcomes.frame.pivot(index="shopper", columns="policy", values="slates")
    assert (slates["clicks"] == slates["dear"]).all()
    assert (slates["clicks"] == slates["dull"]).all()


def test_what_was_shown_is_counted_by_category(benchmark_module: Load) -> None:
    told = benchmark_module("long_term_shown")
    frame = pd.DataFrame({"item_id": list("xyz"), "text": "", "category": list("aba"), "brand": "", "price": 1.0})
    shown = told.Shown(Catalogue(frame.assign(available=True)))
    slates, items, events = (np.zeros((1, told.HISTORY, *more), np.int64) for more in ((2,), (), ()))
    slates[0, :3] = [[1, 2], [0, 0], [3, 0]]  # the second token is one that the shopper brought along
    items[0, :3], events[0, :3] = [2, 1, 3], [Event.CART, Event.VIEW, Event.IMPRESSION]
    seen = {"state": np.ones((1, 4), np.float32), "lengths": np.array([[3]]), "slates": slates.reshape(1, -1)}
    # Of 2 / (1 - 0.8) = 10 places: a had one two tokens ago and one now, b one two tokens ago, and a click (of 5).
    shares = [(0.64 + 1) / 10, 0.64 / 10, 0.0, 0.64 / 5]
    np.testing.assert_allclose(shown(seen | {"items": items, "events": events}), [[1, 1, 1, 1, *shares]], rtol=1e-6)
    assert shown.vectors(torch.ones(4, 4)).tolist() == [[1, 1, 1, 1, 0, 0, 0, 0]] * 4


def test_agents_learn_from_what_was_shown_and_serve_by_it(benchmark_module: Load, tmp_path: Path) -> None:
    study, shops = benchmark_module("long_term"), benchmark_module("long_term_shops")
    mechanism = shops.MECHANISMS["satiation"]
    truth, how = mechanism.truth(), {"folder": tmp_path / "dqn", "seeds": [0], "told": lambda *_: None}
    encoder, learners = shops.eyes(truth), mechanism.learners(study.AGENTS)
    config = replace(learners["slate_dqn"], learning_starts=256)
    assert config.shown_value
    assert learners["slate_ppo"].credit == "slate"
    assert config.gamma == study.AGENTS["slate_dqn"].gamma  # what is not named is common to all
    (policy,) = study.learnt(config, mechanism, truth, encoder, steps=512, **how)
    outcomes, diaries = study.judged({"dqn": [policy]}, mechanism, truth, encoder, 32, 3)
    assert len(outcomes.frame) == 32
    assert policy.policy.scorer.dim == encoder.dim + 2 * truth.config.n_categories
    assert (np.concatenate(diaries["dqn"].slate) > 0).all()
    rows = np.concatenate(diaries["dqn"].slate)
    assert len(np.unique(rows, axis=0)) > 1  # what was shown, and done, changes what is shown


def test_shares_and_verdicts_follow_from_what_was_earned(benchmark_module: Load) -> None:
    study = benchmark_module("long_term")
    rng, earned = np.random.default_rng(0), {"bound": 2.0, "myopic": 1.0, "slate_dqn": 1.4, "slate_ppo": 1.8}
    luck = rng.normal(size=50)
    frames = [
        pd.DataFrame(
            {"simulator": "truth", "policy": name, "training_seed": seed, "shopper": range(50), "reward": mean + luck}
        )
        for name, mean in earned.items()
        for seed in ([0, 1] if name.startswith("slate") else [-1])
    ]
    taken = study.shares(Outcomes(pd.concat(frames)))
    assert taken["slate_dqn"]["value"] == pytest.approx(0.4)
    assert taken["slate_ppo"]["value"] == pytest.approx(0.8)
    less = {f"{one} less myopic": {"low": 0.1, "share": 0.4} for one in taken}
    found = {"patience": {"headroom": 1.0, "differences": less, "share_of_headroom": taken}}
    told = study.verdicts(found)["patience"]
    assert told["slate_dqn"] == {"beyond_the_interval": True, "half_of_the_headroom": False}
    assert told["slate_ppo"] == {"beyond_the_interval": True, "half_of_the_headroom": True}
    found["patience"]["headroom"] = 0.01
    assert study.verdicts(found)["patience"]["slate_ppo"] == {"within_2_percent": False}


def test_what_policies_show_is_told_by_the_slate_of_the_episode(benchmark_module: Load) -> None:
    pictures = benchmark_module("long_term_pictures")
    shop = SimpleNamespace(category=np.array([0, 0, 0, 1, 1]), config=SimpleNamespace(n_categories=2))
    truth: Any = SimpleNamespace(shop=shop, prices=torch.tensor([0.0, 1.0, 3.0, 5.0, 9.0]))
    diary = Diary(20)
    for slate in ([1, 2], [1, 3], [3, 4]):
        diary.who.append(np.arange(20))
        diary.slate.append(np.tile(slate, (20, 1)))
    assert pictures.behaviour("complements", truth, diary) == [2.0, 3.0, 7.0]
    assert pictures.behaviour("satiation", truth, diary) == [1.0, 0.75, 0.5]
