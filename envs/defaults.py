"""What an environment uses where it is given nothing: a small known-truth shop, the plain encoder over its items."""

from dataclasses import replace
from functools import cache

import torch

from ..datasets.catalogue import Catalogue
from ..datasets.known_shop import KnownShop, KnownShopConfig
from ..encoders.mean import MeanEncoder
from ..encoders.state import StateEncoder
from ..simulators.known_truth import KnownTruthShopper
from ..simulators.shopper import Shopper

DEFAULT_K = 5
"""Slots in a slate."""
DEFAULT_MAX_SLATES = 30
"""Slates after which an episode is truncated. Few shoppers of the known-truth shop stay as long."""


@cache
def default_shop() -> KnownShop:
    """The shop of `KnownShopConfig.small()`: 200 items, the same in every process."""
    return KnownShop.make(KnownShopConfig.small())


@cache
def default_visits_shop() -> KnownShop:
    """The same shop, whose shoppers come again, happy ones sooner than others, and do not buy the same thing twice."""
    return KnownShop.make(replace(KnownShopConfig.small(), come_back=0.45, owned=3.0))


def parts(
    shopper: Shopper | None,
    encoder: StateEncoder | None,
    catalogue: Catalogue | None,
    *,
    visits: bool = False,
    device: torch.device | str | None = None,
) -> tuple[Shopper, StateEncoder, Catalogue | None]:
    """The parts given, and defaults for those that are not.

    Args:
        shopper: by default of a small known-truth shop.
        encoder: by default `MeanEncoder` of the catalogue.
        catalogue: by default the shopper's.
        visits: whether the default shoppers come again.
        device: where shopper and encoder live; by default wherever they do, and the CPU for defaults.

    Raises:
        ValueError: there is no encoder, and neither the caller nor the shopper has a catalogue to make one from; or a
            part that is given lives on another device.
    """
    if shopper is None:
        shop = default_visits_shop() if visits else default_shop()
        shopper = KnownTruthShopper(shop, "cpu" if device is None else device)
    if catalogue is None:
        catalogue = (
            shopper.shop.catalogue if isinstance(shopper, KnownTruthShopper) else getattr(shopper, "catalogue", None)
        )
    if encoder is None:
        if catalogue is None:
            raise ValueError(
                f"{type(shopper).__name__} offers no catalogue to make an encoder from; pass encoder= or catalogue="
            )
        encoder = MeanEncoder.from_catalogue(catalogue)
        if shopper.device.type != "cpu":
            encoder = MeanEncoder(encoder.item_vectors.to(shopper.device), encoder.decay)
    for name, lives in (("shopper", shopper.device), ("encoder", encoder.item_vectors.device)):
        if device is not None and not _same(torch.device(device), lives):
            raise ValueError(f"device is {device} and the {name} lives on {lives}; make or load it there")
    return shopper, encoder, catalogue


def _same(one: torch.device, other: torch.device) -> bool:
    """Whether two devices are one; "cuda" is any of them."""
    return one.type == other.type and (one.index is None or other.index is None or one.index == other.index)
