"""The words of the known-truth shop: its aisles, and what is made of them: titles, styles and prices.

Shapes: N items, D latent style dimensions.
"""

from typing import NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from .tokens import Ints


class Aisle(NamedTuple):
    """Words of a category's titles ("BRAND use material noun, colour") and its typical price."""

    price: float
    nouns: str
    uses: str
    materials: str


AISLES = {
    "Jackets": Aisle(
        120,
        "hiking jacket|rain jacket|softshell jacket|parka|anorak|running jacket|ski jacket|work jacket",
        "waterproof|windproof|lightweight|insulated|packable|breathable|classic|reflective",
        "nylon|wool|down|cotton|recycled polyester|waxed canvas|fleece",
    ),
    "Shoes": Aisle(
        95,
        "hiking boots|trail running shoes|sneakers|sandals|winter boots|climbing shoes|loafers|slippers",
        "waterproof|cushioned|lightweight|insulated|barefoot|classic|high-grip|wide-fit",
        "leather|suede|mesh|canvas|wool felt|cork|rubber",
    ),
    "Backpacks": Aisle(
        75,
        "daypack|trekking backpack|laptop backpack|duffel bag|climbing pack|hip bag|travel backpack|child carrier",
        "waterproof|roll-top|lightweight|anti-theft|expandable|classic|padded|reflective",
        "nylon|canvas|recycled polyester|leather|waxed canvas|ripstop|hemp",
    ),
    "Tents": Aisle(
        260,
        "two-person tent|family tent|tunnel tent|dome tent|tarp|hammock|beach shelter|roof tent",
        "waterproof|four-season|lightweight|pop-up|packable|blackout|windproof|ventilated",
        "nylon|ripstop|canvas|silnylon|recycled polyester|cotton",
    ),
    "Sleeping": Aisle(
        110,
        "sleeping bag|sleeping mat|quilt|travel pillow|inflatable mattress|blanket|bag liner|camp cot",
        "insulated|four-season|lightweight|self-inflating|packable|extra-long|washable|quiet",
        "down|wool|fleece|foam|silk|cotton|recycled polyester",
    ),
    "Camp kitchen": Aisle(
        45,
        "gas stove|cooking pot|frying pan|kettle|cutlery set|coffee press|cool box|spice box",
        "foldable|non-stick|lightweight|stackable|windproof|one-litre|family-size|classic",
        "titanium|stainless steel|cast iron|aluminium|enamel|bamboo|silicone",
    ),
    "Bottles": Aisle(
        24,
        "water bottle|thermos flask|travel mug|hydration bladder|filter bottle|lunch box|food jar|tumbler",
        "insulated|leakproof|lightweight|foldable|one-litre|wide-mouth|kids|dishwasher-safe",
        "stainless steel|titanium|glass|silicone|recycled plastic|bamboo|enamel",
    ),
    "Lamps": Aisle(
        38,
        "headlamp|camping lantern|bike light|torch|string lights|reading lamp|solar lamp|candle lantern",
        "rechargeable|waterproof|dimmable|lightweight|magnetic|foldable|solar|classic",
        "aluminium|recycled plastic|brass|silicone|glass|bamboo|paper",
    ),
    "Cycling": Aisle(
        55,
        "bike helmet|pannier bag|cycling gloves|bike pump|saddle|bike lock|cycling shorts|phone mount",
        "aerodynamic|waterproof|lightweight|padded|reflective|foldable|anti-theft|classic",
        "leather|aluminium|carbon|mesh|canvas|rubber|hardened steel",
    ),
    "Knitwear": Aisle(
        65,
        "sweater|cardigan|beanie|scarf|socks|base layer|mittens|poncho",
        "chunky|soft|lightweight|ribbed|breathable|cable-knit|classic|seamless",
        "merino wool|cashmere|alpaca|cotton|linen|bamboo|recycled wool",
    ),
    "Garden": Aisle(
        48,
        "pruning shears|watering can|planter|garden gloves|bird feeder|hand trowel|deck chair|parasol",
        "rustproof|foldable|weatherproof|lightweight|self-watering|hand-forged|classic|family-size",
        "stainless steel|teak|zinc|terracotta|bamboo|cotton|recycled plastic",
    ),
    "Toys": Aisle(
        30,
        "building blocks|puzzle|plush bear|balance bike|kite|play tent|board game|train set",
        "educational|classic|soft|hand-painted|magnetic|washable|family-size|glow-in-the-dark",
        "wooden|organic cotton|wool felt|recycled plastic|bamboo|cardboard|silicone",
    ),
}
COLOURS = "black|white|green|forest green|navy|sky blue|red|burgundy|mustard|orange|sand|grey|pink|lilac"
BRANDS = (
    "Northfell|Aldermoor|Kestrel & Co|Fjordline|Brackwater|Ostwind|Larkspur|Grayling|Tarnhaus|Summit Lane|Havre|"
    "Pinecroft|Meridian|Skua|Wildhaven|Bergkamp|Solstice|Copperleaf|Tidemark|Elmsworth|Vantor|Juniper Hill|Nomadia|"
    "Ridgeway|Saltbox|Arctine|Mossbank|Quillon|Redfern|Stonebridge|Tallis|Umbra|Velden|Westray|Yarrow|Zephyr|Ashgrove|Borealis|Cairn|Dunmore"
)
PARTS = {"brand": 0.6, "use": 1.0, "material": 1.0, "noun": 0.7, "colour": 0.7}
"""How much each part of a title weighs in the item's style."""


def make_titles(category: Ints, n_brands: int, rng: np.random.Generator) -> pd.DataFrame:
    """One row an item: `brand` (number), `use`, `material`, `noun`, `colour` (words) and the `text` they make."""
    brands, colours = BRANDS.split("|")[:n_brands], COLOURS.split("|")
    parts = []
    for number, (name, aisle) in enumerate(AISLES.items()):
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


def make_styles(titles: pd.DataFrame, width: int, rng: np.random.Generator) -> NDArray[np.float64]:
    """(N, D) the weighted sum of the styles of a title's words, so that the text tells nearly all of the style."""
    total = 0.3 * rng.normal(size=(len(titles), width))
    for part, weight in PARTS.items():
        # One vector a word, whatever the category: who likes titanium pots likes titanium mugs.
        number, words = pd.factorize(titles[part], sort=True)
        total += weight * rng.normal(size=(len(words), width))[number]
    scale = np.sqrt(sum(weight**2 for weight in PARTS.values()) + 0.3**2)
    return total / (scale * np.sqrt(width))


def word_levels(words: pd.Series, rng: np.random.Generator) -> NDArray[np.float64]:
    """(N,) a standard normal number of each different word."""
    number, different = pd.factorize(words, sort=True)
    return rng.normal(size=len(different))[number]


def log_prices(category: Ints, level: NDArray[np.float64], rng: np.random.Generator) -> NDArray[np.float64]:
    """(N,) log prices around each category's typical one, given the level (N,) of each item's brand."""
    typical = np.log([aisle.price for aisle in AISLES.values()])
    return typical[category] + 0.25 * level + 0.35 * rng.normal(size=len(category))
