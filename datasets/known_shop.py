"""The known-truth shop: a made-up shop whose items we know through and through, text included.

It is the demo's shop, and the laboratory: what is learnt on its log can be held against the truth. Everything follows
from a `KnownShopConfig`; the shoppers who walk in it are `simulators.known_truth.KnownTruthShopper`.

Shapes: N items, C categories, R brands, D latent style dimensions. Arrays over items have N + 1 rows, row 0 zero.
"""

import hashlib
import json
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Self

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from ..errors import ArtefactError
from .artefact import write_json
from .catalogue import Catalogue
from .known_shop_config import KnownShopConfig
from .known_shop_words import AISLES, BRANDS, log_prices, make_styles, make_titles, word_levels
from .tokens import Floats, Ints

FILE_NAME = "known_shop.json"
DAY_ZERO = "2026-01-01"
"""The date from which a shop's days are counted, UTC."""
YEAR = 365.25
"""Days after which seasons come again."""
_COMPANIONS, _SEASON, _SHELF = 1, 2, 3  # uses of randomness beside the catalogue's


@dataclass(frozen=True, eq=False)
class KnownShop:
    """A shop and what nobody outside the laboratory knows of its items.

    Attributes:
        config: what it was made from; equal configs make equal shops.
        catalogue: the public part: titles, categories, brands, prices; every item available.
        category: (N + 1,) int64 category of each item, 0..C-1; 0 also for row 0.
        brand: (N + 1,) int64 brand of each item, 0..R-1.
        quality: (N + 1,) float32 what everyone likes, standardised.
        allure: (N + 1,) float32 what draws clicks and disappoints, standardised; mostly told by the title's use word.
        style: (N + 1, D) float32 what only some like; the sum of its title's words' styles and a little noise, scaled
            so that a standard normal taste has a dot product of about unit variance with it.
        log_price: (N + 1,) float32 log price, standardised within the category, in [-3, 3].
        category_share: (C,) float32 how common it is that a shopper likes each category; sums to 1.
        popularity: (N + 1,) float32 utility to the average shopper, in logits.
        companions: (C, C) float32 in [0, 1]: how well the category of a column goes with the category of a row; each
            category has two that do, at 1 and 0.5 (fewer in a shop of fewer than three).
        season_peak: (C,) float32 day of the year, in [0, 365.25), on which each category appeals most.
        shelf_period: (N + 1,) float32 days from one coming of an item to the next, > 0; 0 for items always on sale.
        shelf_phase: (N + 1,) float32 days since the item last came, on day 0.
    """

    config: KnownShopConfig
    catalogue: Catalogue
    category: Ints
    brand: Ints
    quality: Floats
    allure: Floats
    style: Floats
    log_price: Floats
    category_share: Floats
    popularity: Floats
    companions: Floats
    season_peak: Floats
    shelf_period: Floats
    shelf_phase: Floats

    @property
    def n_items(self) -> int:
        """Number of items."""
        return self.config.n_items

    @classmethod
    def make(cls, config: KnownShopConfig | None = None) -> Self:
        """The shop of a config, the same on every machine.

        Raises:
            ValueError: a category would need more items than there are different titles.
        """
        config = config or KnownShopConfig()
        rng = np.random.default_rng(config.seed)
        share = rng.dirichlet(np.full(config.n_categories, 4.0))
        category = rng.choice(config.n_categories, size=config.n_items, p=share)
        titles = make_titles(category, config.n_brands, rng)
        brand = titles["brand"].to_numpy()
        brand_level = rng.normal(size=config.n_brands)
        log_price = log_prices(category, brand_level[brand], rng)
        price = np.maximum(np.round(np.exp(log_price)) - 0.05, 0.95)
        z = _standardised(np.log(price), category).clip(-3, 3)
        quality = _standardised(rng.normal(size=len(z)) + 0.4 * brand_level[brand] + 0.2 * z)
        allure = _standardised(word_levels(titles["use"], rng) + 0.5 * rng.normal(size=len(z)))
        popularity = config.quality * quality + config.allure * allure - config.price_sensitivity * z
        popularity += config.category_taste * np.log(share[category])
        return cls(
            config=config,
            catalogue=_catalogue(titles, category, price),
            category=np.concatenate([[0], category]).astype(np.int64),
            brand=np.concatenate([[0], brand]).astype(np.int64),
            quality=_with_padding(quality),
            allure=_with_padding(allure),
            style=_with_padding(make_styles(titles, config.style_width, rng)),
            log_price=_with_padding(z),
            category_share=share.astype(np.float32),
            popularity=_with_padding(popularity - popularity.mean()),
            companions=_companions(config),
            season_peak=_own_rng(config, _SEASON).uniform(0, YEAR, config.n_categories).astype(np.float32),
            **_shelf_times(config),
        )

    def there(self, day: float) -> NDArray[np.bool_]:
        """(N + 1,) whether each item is on sale on a day since `DAY_ZERO`; entry 0 is False."""
        period = np.maximum(self.shelf_period, 1e-3)
        there = (self.shelf_period == 0) | ((day + self.shelf_phase) % period < 0.5 * period)
        there[0] = False
        return there

    def save(self, folder: Path) -> None:
        """Write `known_shop.json`: the config, and a checksum of the catalogue it makes."""
        write_json(Path(folder) / FILE_NAME, {"config": asdict(self.config), "catalogue": _checksum(self.catalogue)})

    @classmethod
    def load(cls, folder: Path) -> Self:
        """Make again the shop that `save` wrote down.

        Raises:
            ArtefactError: the file is missing or unreadable, or this version makes another catalogue of its config.
        """
        path = Path(folder) / FILE_NAME
        try:
            saved = json.loads(path.read_text(encoding="utf-8"))
            known = {one.name for one in fields(KnownShopConfig)}
            unknown = sorted(set(saved["config"]) - known)
            if unknown:
                raise ArtefactError(f"{path} has the setting {unknown[0]!r}, which this version lacks; make it anew")
            shop = cls.make(KnownShopConfig(**saved["config"]))
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise ArtefactError(f"{path} is not a readable known-truth shop: {error}") from error
        if _checksum(shop.catalogue) != saved.get("catalogue"):
            raise ArtefactError(
                f"{path} was written by a version that made other items of the same settings; make the shop anew"
            )
        return shop


def _standardised(values: NDArray[np.float64], group: Ints | None = None) -> NDArray[np.float64]:
    """Values with mean 0 and standard deviation 1 within each group; a group without spread gives 0."""
    group = np.zeros(len(values), np.int64) if group is None else group
    count = np.maximum(np.bincount(group), 1)
    centred = values - (np.bincount(group, values) / count)[group]
    spread = np.sqrt(np.bincount(group, centred**2) / count)[group]
    return np.divide(centred, spread, out=np.zeros_like(centred), where=spread > 1e-9)


def _with_padding(rows: NDArray[np.float64]) -> Floats:
    return np.concatenate([np.zeros_like(rows[:1]), rows]).astype(np.float32)


def _own_rng(config: KnownShopConfig, use: int) -> np.random.Generator:
    """Randomness of one mechanism alone, so that a new one leaves what the others draw as it was."""
    return np.random.default_rng([config.seed, use])


def _companions(config: KnownShopConfig) -> Floats:
    n, rng = config.n_categories, _own_rng(config, _COMPANIONS)
    goes = np.zeros((n, n), np.float32)
    for category in range(n):
        others = rng.permutation(np.delete(np.arange(n), category))[:2]
        goes[category, others] = (1.0, 0.5)[: len(others)]
    return goes


def _shelf_times(config: KnownShopConfig) -> dict[str, Floats]:
    """When items come and go: stretches on sale and away, equally long, half to one and a half times the mean."""
    rng = _own_rng(config, _SHELF)
    goes, length, phase = rng.random((3, config.n_items))
    period = np.where(goes < config.turnover, 2 * config.shelf_days * (0.5 + length), 0.0)
    return {"shelf_period": _with_padding(period), "shelf_phase": _with_padding(phase * period)}


def _catalogue(titles: pd.DataFrame, category: Ints, price: NDArray[np.float64]) -> Catalogue:
    names, brands = np.array(list(AISLES), dtype=object), np.array(BRANDS.split("|"), dtype=object)
    return Catalogue(
        pd.DataFrame(
            {
                "item_id": [f"i{number:05d}" for number in range(1, len(titles) + 1)],
                "text": titles["text"].to_numpy(),
                "category": names[category],
                "brand": brands[titles["brand"].to_numpy()],
                "price": np.round(price, 2),
                "available": True,
            }
        )
    )


def _checksum(catalogue: Catalogue) -> str:
    frame = catalogue.frame
    return hashlib.sha256("\n".join(frame["text"] + " " + frame["price"].map("{:.2f}".format)).encode()).hexdigest()[
        :16
    ]
