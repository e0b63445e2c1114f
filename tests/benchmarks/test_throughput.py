"""The measurement of speed shows every shopper what it says it shows, and runs."""

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import torch

from slatewise.datasets import KnownShop, KnownShopConfig
from slatewise.simulators import KnownTruthShopper

BENCHMARKS = Path(__file__).resolve().parents[2] / "benchmarks"
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


def test_the_cost_of_the_bridge_and_the_shares_are_told_in_the_last_line() -> None:
    command = [sys.executable, "-W", "ignore", str(BENCHMARKS / "throughput.py"), "--quick", "--rounds", "1"]
    done = subprocess.run([*command, "--items", "200", "--peers"], capture_output=True, text=True, check=True)
    told = json.loads(done.stdout.splitlines()[-1])
    for key in ("known_truth_per_s", "with_encoder_per_s", "fitted_per_s", "single_per_s"):
        assert told[key] > 0, key
    assert told["bridge_cost"] < 1
    assert told["peers"] == {}
    assert set(told["cost"]) == {"catalogue", "history"}
    for row in told["rows"]:
        if "shares" in row:
            assert abs(sum(row["shares"].values()) - 1) < 1e-6
