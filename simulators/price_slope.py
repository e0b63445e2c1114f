"""How much less dear items are liked, all told: the slope of items' mean utility over their price.

The weight of a price in a choice model is what a price does beside everything else that the model knows of an item,
and its popularity and its own effect know most of it already. The slope of the whole is what a shop means by price
sensitivity, as far as a log tells it: where better items cost more, what they gain by being better is in it.
"""

import torch

from .choice import ChoiceWeights
from .features import ITEM_FEATURES, ItemFacts, Scaling

_COLUMNS = [ITEM_FEATURES.index(name) for name in ("price", "price_in_category", "popularity")]


def price_slope(choice: ChoiceWeights, facts: ItemFacts, scaling: Scaling) -> float:
    """Logits that items gain, on average, where they are a standard deviation dearer within their category.

    Least squares over the catalogue, items counting alike; nan where all prices are.

    Args:
        choice: weights.
        facts: of the items.
        scaling: of their features.
    """
    columns = torch.stack([facts.price, facts.price_in_category, facts.popularity], 1)[1:].double()
    weight = (choice.item / scaling.scale)[_COLUMNS].double()
    liked = columns @ weight + choice.effects[1:].double()
    dear = columns[:, 1] - columns[:, 1].mean()
    spread = dear.square().mean()
    return float((dear * liked).mean() / spread) if spread > 1e-9 else float("nan")
