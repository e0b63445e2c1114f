"""The parts of a fit that the benchmark of its speed tells apart, and that they add up."""

from collections.abc import Callable
from functools import partial
from types import ModuleType

import pytest

from slatewise.datasets.known_shop import KnownShop, KnownShopConfig
from slatewise.encoders.mean import MeanEncoder
from slatewise.simulators import FitConfig, KnownTruthShopper, collect_log, fit_boosted, fit_shopper, learn_after

SHARED = ("replay", "choice", "leaving", "time", "members", "judging")


@pytest.mark.parametrize("family", ["transformer", "boosted"])
def test_parts_add_up_and_calls_are_as_before(family: str, benchmark_module: Callable[[str], ModuleType]) -> None:
    speed = benchmark_module("fit_speed")
    shop = KnownShop.make(KnownShopConfig(n_items=20, seed=4))
    log = collect_log(KnownTruthShopper(shop), shop.catalogue, sessions=200, k=5, seed=1, again=0.5)
    config = FitConfig(members=1, held_out=0.2)
    encoder = MeanEncoder.from_catalogue(shop.catalogue)
    make = partial(fit_boosted, log) if family == "boosted" else partial(fit_shopper, log, encoder)
    before, calls = learn_after.Rest.learn, [vars(owner)[name] for _, owner, name in speed.CALLS]
    found = speed.measured(partial(make, config=config))
    assert learn_after.Rest.learn is before
    assert [vars(owner)[name] for _, owner, name in speed.CALLS] == calls
    assert sum(found[part] for part in speed.PARTS) == pytest.approx(found["total"])
    assert min(found[part] for part in SHARED) > 0
    assert 0 <= found["rest"] < 0.3 * found["total"]
    assert (found["drift"] > 0) == (found["returning"] > 0) == (family == "transformer")


def test_of_calls_within_one_another_the_outermost_counts(benchmark_module: Callable[[str], ModuleType]) -> None:
    clock = benchmark_module("fit_speed").Clock()
    with clock.part("outer"), clock.part("inner"):
        sum(range(1_000_000))
    assert set(clock.seconds) == {"outer"}
    assert clock.seconds["outer"] > 0
