"""The known-truth shop: a made-up shop whose items we know through and through, text included.

It is the demo's shop, and the laboratory: what is learnt on its log can be held against the truth. Everything follows
from a `KnownShopConfig`; the shoppers who walk in it are `simulators.known_truth.KnownTruthShopper`.

Shapes: N items, C categories, R brands, D latent style dimensions. Arrays over items have N + 1 rows, row 0 zero.
"""

import hashlib
import json
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import NamedTuple, Self

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from ..errors import ArtefactError
from .artefact import write_json
from .catalogue import Catalogue
from .tokens import Floats, Ints

FILE_NAME = "known_shop.json"


class _Aisle(NamedTuple):
    """Words of a category's titles ("BRAND use material noun, colour") and its typical price."""

    price: float
    nouns: str
    uses: str
    materials: str


_AISLES = {
    "Jackets": _Aisle(
        120,
        "hiking jacket|rain jacket|softshell jacket|parka|anorak|running jacket|ski jacket|work jacket",
        "waterproof|windproof|lightweight|insulated|packable|breathable|classic|reflective",
        "nylon|wool|down|cotton|recycled polyester|waxed canvas|fleece",
    ),
    "Shoes": _Aisle(
        95,
        "hiking boots|trail running shoes|sneakers|sandals|winter boots|climbing shoes|loafers|slippers",
        "waterproof|cushioned|lightweight|insulated|barefoot|classic|high-grip|wide-fit",
        "leather|suede|mesh|canvas|wool felt|cork|rubber",
    ),
    "Backpacks": _Aisle(
        75,
        "daypack|trekking backpack|laptop backpack|duffel bag|climbing pack|hip bag|travel backpack|child carrier",
        "waterproof|roll-top|lightweight|anti-theft|expandable|classic|padded|reflective",
        "nylon|canvas|recycled polyester|leather|waxed canvas|ripstop|hemp",
    ),
    "Tents": _Aisle(
        260,
        "two-person tent|family tent|tunnel tent|dome tent|tarp|hammock|beach shelter|roof tent",
        "waterproof|four-season|lightweight|pop-up|packable|blackout|windproof|ventilated",
        "nylon|ripstop|canvas|silnylon|recycled polyester|cotton",
    ),
    "Sleeping": _Aisle(
        110,
        "sleeping bag|sleeping mat|quilt|travel pillow|inflatable mattress|blanket|bag liner|camp cot",
        "insulated|four-season|lightweight|self-inflating|packable|extra-long|washable|quiet",
        "down|wool|fleece|foam|silk|cotton|recycled polyester",
    ),
    "Camp kitchen": _Aisle(
        45,
        "gas stove|cooking pot|frying pan|kettle|cutlery set|coffee press|cool box|spice box",
        "foldable|non-stick|lightweight|stackable|windproof|one-litre|family-size|classic",
        "titanium|stainless steel|cast iron|aluminium|enamel|bamboo|silicone",
    ),
    "Bottles": _Aisle(
        24,
        "water bottle|thermos flask|travel mug|hydration bladder|filter bottle|lunch box|food jar|tumbler",
        "insulated|leakproof|lightweight|foldable|one-litre|wide-mouth|kids|dishwasher-safe",
        "stainless steel|titanium|glass|silicone|recycled plastic|bamboo|enamel",
    ),
    "Lamps": _Aisle(
        38,
        "headlamp|camping lantern|bike light|torch|string lights|reading lamp|solar lamp|candle lantern",
        "rechargeable|waterproof|dimmable|lightweight|magnetic|foldable|solar|classic",
        "aluminium|recycled plastic|brass|silicone|glass|bamboo|paper",
    ),
    "Cycling": _Aisle(
        55,
        "bike helmet|pannier bag|cycling gloves|bike pump|saddle|bike lock|cycling shorts|phone mount",
        "aerodynamic|waterproof|lightweight|padded|reflective|foldable|anti-theft|classic",
        "leather|aluminium|carbon|mesh|canvas|rubber|hardened steel",
    ),
    "Knitwear": _Aisle(
        65,
        "sweater|cardigan|beanie|scarf|socks|base layer|mittens|poncho",
        "chunky|soft|lightweight|ribbed|breathable|cable-knit|classic|seamless",
        "merino wool|cashmere|alpaca|cotton|linen|bamboo|recycled wool",
    ),
    "Garden": _Aisle(
        48,
        "pruning shears|watering can|planter|garden gloves|bird feeder|hand trowel|deck chair|parasol",
        "rustproof|foldable|weatherproof|lightweight|self-watering|hand-forged|classic|family-size",
        "stainless steel|teak|zinc|terracotta|bamboo|cotton|recycled plastic",
    ),
    "Toys": _Aisle(
        30,
        "building blocks|puzzle|plush bear|balance bike|kite|play tent|board game|train set",
        "educational|classic|soft|hand-painted|magnetic|washable|family-size|glow-in-the-dark",
        "wooden|organic cotton|wool felt|recycled plastic|bamboo|cardboard|silicone",
    ),
}
_COLOURS = "black|white|green|forest green|navy|sky blue|red|burgundy|mustard|orange|sand|grey|pink|lilac"
_BRANDS = (
    "Northfell|Aldermoor|Kestrel & Co|Fjordline|Brackwater|Ostwind|Larkspur|Grayling|Tarnhaus|Summit Lane|Havre|"
    "Pinecroft|Meridian|Skua|Wildhaven|Bergkamp|Solstice|Copperleaf|Tidemark|Elmsworth|Vantor|Juniper Hill|Nomadia|"
    "Ridgeway|Saltbox|Arctine|Mossbank|Quillon|Redfern|Stonebridge|Tallis|Umbra|Velden|Westray|Yarrow|Zephyr|Ashgrove|Borealis|Cairn|Dunmore"
)
_PARTS = {"brand": 0.6, "use": 1.0, "material": 1.0, "noun": 0.7, "colour": 0.7}
"""How much each part of a title weighs in the item's style."""


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

    def __post_init__(self) -> None:
        for name, low, high in (("n_items", 2, 10**6), ("n_categories", 1, len(_AISLES)), ("n_brands", 1, 40)):
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
        for name in ("satiation_kept", "leave", "leave_bought"):
            _in_range(name, getattr(self, name), 0, 1)
        for name in ("position_decay", "cart_rate", "purchase_rate"):
            _in_range(name, getattr(self, name), 0, np.nextafter(1, 0))

    @classmethod
    def small(cls, seed: int = 0) -> Self:
        """A corner shop for tests and first tries: 200 items in 6 categories."""
        return cls(n_items=200, n_categories=6, n_brands=12, seed=seed)

    @classmethod
    def demo(cls, seed: int = 0) -> Self:
        """The demo's shop: 1,000 items in 12 categories."""
        return cls(seed=seed)


def _in_range(name: str, value: float, low: float, high: float) -> None:
    if not low <= value <= high:
        raise ValueError(f"{name} must be in [{low}, {high}], got {value}")


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
        titles = _titles(category, config.n_brands, rng)
        brand = titles["brand"].to_numpy()
        brand_level = rng.normal(size=config.n_brands)
        log_price = _log_prices(category, brand_level[brand], rng)
        price = np.maximum(np.round(np.exp(log_price)) - 0.05, 0.95)
        z = _standardised(np.log(price), category).clip(-3, 3)
        quality = _standardised(rng.normal(size=len(z)) + 0.4 * brand_level[brand] + 0.2 * z)
        allure = _standardised(_word_levels(titles["use"], rng) + 0.5 * rng.normal(size=len(z)))
        popularity = config.quality * quality + config.allure * allure - config.price_sensitivity * z
        popularity += config.category_taste * np.log(share[category])
        return cls(
            config=config,
            catalogue=_catalogue(titles, category, price),
            category=np.concatenate([[0], category]).astype(np.int64),
            brand=np.concatenate([[0], brand]).astype(np.int64),
            quality=_with_padding(quality),
            allure=_with_padding(allure),
            style=_with_padding(_styles(titles, config.style_width, rng)),
            log_price=_with_padding(z),
            category_share=share.astype(np.float32),
            popularity=_with_padding(popularity - popularity.mean()),
        )

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


def _titles(category: Ints, n_brands: int, rng: np.random.Generator) -> pd.DataFrame:
    """One row an item: `brand` (number), `use`, `material`, `noun`, `colour` (words) and the `text` they make."""
    brands, colours = _BRANDS.split("|")[:n_brands], _COLOURS.split("|")
    parts = []
    for number, (name, aisle) in enumerate(_AISLES.items()):
        rows = np.flatnonzero(category == number)
        uses, materials, nouns = (words.split("|") for words in (aisle.uses, aisle.materials, aisle.nouns))
        sizes = (len(brands), len(uses), len(materials), len(nouns), len(colours))
        if len(rows) > np.prod(sizes):
            raise ValueError(
                f"{len(rows)} items of {name} need more than the {np.prod(sizes)} titles there are; lower n_items"
            )
        codes = np.unravel_index(rng.choice(np.prod(sizes), size=len(rows), replace=False), sizes)
        words = [
            np.array(vocabulary)[code]
            for vocabulary, code in zip((uses, materials, nouns, colours), codes[1:], strict=True)
        ]
        parts.append(pd.DataFrame(dict(zip(("use", "material", "noun", "colour"), words, strict=True)), index=rows))
        parts[-1]["brand"] = codes[0]
    titles = pd.concat(parts).sort_index()
    named = np.array(brands, dtype=object)[titles["brand"].to_numpy()]
    titles["text"] = (
        named + " " + titles["use"] + " " + titles["material"] + " " + titles["noun"] + ", " + titles["colour"]
    )
    return titles


def _styles(titles: pd.DataFrame, width: int, rng: np.random.Generator) -> NDArray[np.float64]:
    """(N, D) the weighted sum of the styles of a title's words, so that the text tells nearly all of the style."""
    total = 0.3 * rng.normal(size=(len(titles), width))
    for part, weight in _PARTS.items():
        # One vector a word, whatever the category: who likes titanium pots likes titanium mugs.
        number, words = pd.factorize(titles[part], sort=True)
        total += weight * rng.normal(size=(len(words), width))[number]
    scale = np.sqrt(sum(weight**2 for weight in _PARTS.values()) + 0.3**2)
    return total / (scale * np.sqrt(width))


def _word_levels(words: pd.Series, rng: np.random.Generator) -> NDArray[np.float64]:
    """(N,) a standard normal number of each different word."""
    number, different = pd.factorize(words, sort=True)
    return rng.normal(size=len(different))[number]


def _log_prices(category: Ints, level: NDArray[np.float64], rng: np.random.Generator) -> NDArray[np.float64]:
    typical = np.log([aisle.price for aisle in _AISLES.values()])
    return typical[category] + 0.25 * level + 0.35 * rng.normal(size=len(category))


def _standardised(values: NDArray[np.float64], group: Ints | None = None) -> NDArray[np.float64]:
    """Values with mean 0 and standard deviation 1 within each group; a group without spread gives 0."""
    group = np.zeros(len(values), np.int64) if group is None else group
    count = np.maximum(np.bincount(group), 1)
    centred = values - (np.bincount(group, values) / count)[group]
    spread = np.sqrt(np.bincount(group, centred**2) / count)[group]
    return np.divide(centred, spread, out=np.zeros_like(centred), where=spread > 1e-9)


def _with_padding(rows: NDArray[np.float64]) -> Floats:
    return np.concatenate([np.zeros_like(rows[:1]), rows]).astype(np.float32)


def _catalogue(titles: pd.DataFrame, category: Ints, price: NDArray[np.float64]) -> Catalogue:
    names, brands = np.array(list(_AISLES), dtype=object), np.array(_BRANDS.split("|"), dtype=object)
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
