"""Settings of the known-truth shop and of its shoppers, and the presets."""

from dataclasses import dataclass
from typing import Self

import numpy as np

from .known_shop_words import AISLES


@dataclass(frozen=True, kw_only=True)
class KnownShopConfig:
    """Settings of a known-truth shop and of the shoppers in it. Every mechanism of the shoppers is switched off by 0.

    By default about one in nine random slates of eight is clicked, and one in four of the most popular items, far more
    than in a real shop (Open Bandit: 0.4-0.7 % of the items shown), so that a demo can learn within minutes; carts
    given a click (about 12 %) and purchases given a cart (about 40 %) are near real shops'.
    """

    n_items: int = 1_000
    """Items of the catalogue, at least 2."""
    n_categories: int = 12
    """Categories, 1 to 12."""
    n_brands: int = 30
    """Brands, 1 to 40."""
    style_width: int = 8
    """Latent dimensions of style in which items differ and shoppers' tastes differ."""
    seed: int = 0
    """Decides the catalogue and its hidden attributes."""

    category_taste: float = 1.0
    """Strength of the lasting liking of categories, in logits."""
    intent: float = 1.5
    """What the categories that a session is about gain, in logits."""
    style_taste: float = 1.3
    """Standard deviation over items of a shopper's liking of their style, in logits."""
    quality: float = 0.8
    """Logits a standard deviation of an item's quality is worth to everyone."""
    allure: float = 0.5
    """Logits of a click a standard deviation of an item's allure is worth to everyone; it sells nothing."""
    price_sensitivity: float = 0.4
    """Mean logits lost per standard deviation of log price within the category."""

    position_decay: float = 0.12
    """Chance that a shopper who looked at a place does not look at the next one, in [0, 1)."""
    outside_option: float = 350.0
    """Attraction of clicking nothing, where an item of utility 0 has 1; at 0 a slate is always clicked."""
    satiation: float = 0.3
    """Logits that a category loses with a click on it; a place looked at and passed over costs a third of it."""
    satiation_kept: float = 0.85
    """Share of the satiation that is left at the next slate, in [0, 1]."""
    familiarity: float = 1.0
    """Logits that an item loses once clicked, and twice that once bought."""
    patience: int = 5
    """Slates without a click in a row after which a shopper leaves."""
    letdown: float = 2.5
    """Slates of patience that a click costs for each standard deviation of the item's allure above the mean, so that
    what earns the next click shortens the visit (the trade-off of RecSim's long-term satisfaction, Ie et al. 2019)."""
    leave: float = 0.02
    """Chance to leave after any slate, in [0, 1]."""
    leave_bought: float = 0.25
    """Chance to leave after a purchase, in [0, 1]."""
    cart_rate: float = 0.08
    """Chance of a cart given a click at a middling match, in [0, 1)."""
    purchase_rate: float = 0.35
    """Chance of a purchase given a cart at a middling match, in [0, 1)."""
    match: float = 0.35
    """How strongly a better match raises carts and purchases, in logits per logit of utility."""

    complements: float = 0.0
    """Logits that the categories which go with a clicked one gain at most, for the rest of the visit; half as much
    again once it is in the cart, and twice as much once bought. Which go together is drawn by `seed`."""
    seasonality: float = 0.0
    """Logits by which the appeal of a category swings over the year, up and down from its mean."""
    turnover: float = 0.0
    """Share of the items that come and go, in [0, 1]; half of them are on sale at any time."""
    shelf_days: float = 45.0
    """Mean days that such an item is on sale before it is away for as long, > 0."""
    come_back: float = 0.0
    """Chance that a shopper comes again after a visit with a click and no purchase, in [0, 1)."""
    come_back_after: float = 2.0
    """Median days until then, > 0."""
    delight: float = 1.0
    """Logits that a purchase adds to the odds of coming again, and that a visit without a click takes from them."""
    owned: float = 0.0
    """Logits that an item loses on later visits once bought; its category loses a third of it. Shoppers of a log
    remember only where they come again by themselves (`come_back`)."""

    def __post_init__(self) -> None:
        for name, low, high in (("n_items", 2, 10**6), ("n_categories", 1, len(AISLES)), ("n_brands", 1, 40)):
            _in_range(name, getattr(self, name), low, high)
        _in_range("style_width", self.style_width, 1, 256)
        for name in (
            "category_taste",
            "intent",
            "style_taste",
            "quality",
            "allure",
            "price_sensitivity",
            "outside_option",
        ):
            _in_range(name, getattr(self, name), 0, np.inf)
        for name in ("satiation", "familiarity", "patience", "letdown", "match"):
            _in_range(name, getattr(self, name), 0, np.inf)
        for name in ("complements", "seasonality", "delight", "owned"):
            _in_range(name, getattr(self, name), 0, np.inf)
        for name in ("shelf_days", "come_back_after"):
            _in_range(name, getattr(self, name), 1 / 24, 36_500)
        for name in ("satiation_kept", "leave", "leave_bought", "turnover"):
            _in_range(name, getattr(self, name), 0, 1)
        for name in ("position_decay", "cart_rate", "purchase_rate", "come_back"):
            _in_range(name, getattr(self, name), 0, np.nextafter(1, 0))

    @classmethod
    def small(cls, seed: int = 0) -> Self:
        """A corner shop for tests and first tries: 200 items in 6 categories."""
        return cls(n_items=200, n_categories=6, n_brands=12, seed=seed)

    @classmethod
    def demo(cls, seed: int = 0) -> Self:
        """The demo's shop: 1,000 items in 12 categories."""
        return cls(seed=seed)

    @classmethod
    def tiny(cls, seed: int = 0) -> Self:
        """Eight items in 3 categories: every slate can be tried."""
        return cls(n_items=8, n_categories=3, n_brands=4, seed=seed)

    @classmethod
    def large(cls, seed: int = 0) -> Self:
        """A department store: 50,000 items in 12 categories."""
        return cls(n_items=50_000, n_brands=40, seed=seed)

    @classmethod
    def realistic(cls, seed: int = 0) -> Self:
        """1,000 items with every mechanism on, and a funnel near real shops' (see `docs/known_truth_shop.md`).

        Under the default logging policy, of slates of twelve about 18 % are clicked, of clicks about 24 % end in a
        cart, and of carts about 8 % in a purchase. Shops of other seeds have up to 1.4 times as many clicks or as few.
        """
        return cls(
            seed=seed,
            outside_option=750.0,
            position_decay=0.08,
            cart_rate=0.15,
            purchase_rate=0.05,
            leave=0.1,
            complements=0.8,
            seasonality=0.7,
            turnover=0.3,
            come_back=0.45,
            owned=3.0,
        )

    @property
    def keeps_time(self) -> bool:
        """Whether it matters when a shopper comes."""
        return self.seasonality > 0 or self.turnover > 0


def _in_range(name: str, value: float, low: float, high: float) -> None:
    if not low <= value <= high:
        raise ValueError(f"{name} must be in [{low}, {high}], got {value}")
