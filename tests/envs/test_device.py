"""Environments on a GPU do what they do on the CPU; and say so where parts live elsewhere."""

from typing import Any

import numpy as np
import pytest
import torch

from slatewise.encoders import MeanEncoder
from slatewise.envs import ShopEnv, ShopVectorEnv
from slatewise.envs.defaults import default_shop
from slatewise.simulators import KnownTruthShopper

ROWS = 256
SETTINGS: list[dict[str, Any]] = [
    {"observation": "history"},
    {"candidates": 20, "actions": "items", "observation": ("candidate_features", "action_mask")},
    {"visits": True, "observation": ("history", "context"), "max_slates": 60},
    {"visits": True, "remembers": True, "observation": "history", "max_slates": 60},
    {"search": True, "observation": "query"},
]


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.parametrize("settings", SETTINGS)
def test_shoppers_on_a_gpu_do_what_they_do_on_the_cpu(settings: dict[str, Any]) -> None:
    here, there = (ShopVectorEnv(ROWS, device=device, **settings) for device in ("cpu", "cuda"))
    assert there.batch.shopper.device.type == there.batch.encoder.item_vectors.device.type == "cuda"
    here.action_space.seed(0)
    here.reset(seed=0)
    there.reset(seed=0)
    for _ in range(6):
        slates = here.action_space.sample()
        one, two = here.step(slates), there.step(slates)
        np.testing.assert_array_equal(one[4]["shopper_seed"][:8], two[4]["shopper_seed"][:8])
        alike = (one[4]["clicked"] == two[4]["clicked"]) & (one[2] == two[2])
        assert alike.mean() > 0.97  # a shopper whose luck lies within rounding of a chance may turn the other way
        for name, seen in one[0].items():
            assert seen.shape == two[0][name].shape
            assert np.isclose(seen, two[0][name], atol=1e-3).mean() > 0.95, name


def test_default_parts_are_made_where_they_are_wanted() -> None:
    env = ShopEnv(device="cpu")
    assert env.batch.shopper.device == env.batch.encoder.item_vectors.device == torch.device("cpu")


def test_parts_that_live_elsewhere_are_refused() -> None:
    shopper = KnownTruthShopper(default_shop())
    with pytest.raises(ValueError, match="device is meta and the shopper lives on cpu"):
        ShopEnv(shopper, device="meta")
    encoder = MeanEncoder.from_catalogue(default_shop().catalogue)
    with pytest.raises(ValueError, match="device is meta and the encoder lives on cpu"):
        ShopVectorEnv(2, KnownTruthShopper(default_shop(), "meta"), encoder, device="meta")
