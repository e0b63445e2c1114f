"""The measurement of speed shows whole random slates to shoppers who come and go."""

from collections.abc import Callable
from types import ModuleType

import torch

from slatewise.datasets import KnownShop, KnownShopConfig
from slatewise.simulators import KnownTruthShopper

Load = Callable[[str], ModuleType]


def test_slates_are_random_and_hold_no_item_twice(benchmark_module: Load) -> None:
    slates = torch.cat(benchmark_module("throughput").make_slates(12, 500, seed=1))
    assert (slates.sort(1).values.diff(dim=1) > 0).all()
    assert torch.bincount(slates.flatten(), minlength=13)[1:].float().std() < 0.05 * len(slates)
    assert slates.min() == 1


def test_a_shopper_who_leaves_is_replaced_by_the_next_one(benchmark_module: Load) -> None:
    throughput = benchmark_module("throughput")
    truth = KnownTruthShopper(KnownShop.make(KnownShopConfig.small()))
    shop = throughput.Shop(truth, None, throughput.make_slates(200, 40, seed=1), seed=0)
    seen = set(shop.state.seed.tolist())
    for _ in range(40):
        shop.go(1)
        assert (shop.state.step < throughput.LIMIT).all()
        assert len(set(shop.state.seed.tolist())) == 40
        seen |= set(shop.state.seed.tolist())
    assert len(seen) > 100
    assert shop.spent["choice"] > shop.spent["encoder"] >= 0
