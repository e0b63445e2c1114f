"""How much less dear items are liked, all told: the slope of items' mean utility over their price.

The weight of a price in a choice model is what a price does beside everything else that the model knows of an item,
and its popularity and its own effect know most of it already. The slope of the whole is what a shop means by price
sensitivity, as far as a log tells it: where better items cost more, what they gain by being better is in it.
"""

import numpy as np
import torch

from .choice import ChoiceWeights
from .features import ITEM_FEATURES, ItemFacts, Scaling, bent_popularity
from .priors import LEARNED, Evidence
from .shopper_model import ShopperModel

_COLUMNS = [
    ITEM_FEATURES.index(name)
    for name in ("price", "price_in_category", "popularity", "popularity_low", "popularity_high")
]


def price_slope(choice: ChoiceWeights, facts: ItemFacts, scaling: Scaling) -> float:
    """Logits that items gain, on average, where they are a standard deviation dearer within their category.

    Least squares over the catalogue, items counting alike; nan where all prices are.

    Args:
        choice: weights.
        facts: of the items.
        scaling: of their features.
    """
    popularity = (facts.popularity, *bent_popularity(facts.popularity, facts.knots))
    columns = torch.stack([facts.price, facts.price_in_category, *popularity], 1)[1:].double()
    weight = (choice.item / scaling.scale)[_COLUMNS].double()
    liked = columns @ weight + choice.effects[1:].double()
    dear = columns[:, 1] - columns[:, 1].mean()
    spread = dear.square().mean()
    return float((dear * liked).mean() / spread) if spread > 1e-9 else float("nan")


def price_evidence(model: ShopperModel) -> list[Evidence]:
    """The row of the table of evidence, with the interval of an ensemble; none where all prices are alike."""
    slope = price_slope(model.own.choice, model.facts, model.scaling)
    if np.isnan(slope):
        return []
    members = 0 if model.members is None else len(model.members)
    others = [price_slope(model.member(number).own.choice, model.facts, model.scaling) for number in range(members)]
    margin = 1.96 * float(np.std(others, ddof=1)) if members > 1 else float("nan")
    words = "what an item gains where it is a standard deviation dearer within its category, in logits, all told"
    return [Evidence(words, LEARNED, f"{len(model.prices) - 1} items", slope, slope - margin, slope + margin)]
