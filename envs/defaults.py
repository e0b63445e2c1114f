"""What an environment uses where it is given nothing: a small known-truth shop, the plain encoder over its items."""

from functools import cache

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


def parts(
    shopper: Shopper | None, encoder: StateEncoder | None, catalogue: Catalogue | None
) -> tuple[Shopper, StateEncoder, Catalogue | None]:
    """The parts given, and defaults for those that are not.

    Raises:
        ValueError: there is no encoder, and neither the caller nor the shopper has a catalogue to make one from.
    """
    shopper = shopper or KnownTruthShopper(default_shop())
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
    return shopper, encoder, catalogue
