"""What shoppers would make of items that are not shown to them.

Shapes: B shoppers, N items.
"""

from dataclasses import dataclass

from torch import Tensor


@dataclass(frozen=True, slots=True)
class ChoiceScores:
    """What a shopper would make of every item, were it looked at; entries of index 0 are -inf or 0.

    Attributes:
        utility: (B, N + 1) float32 utility of choosing the item.
        outside: (B,) float32 utility of choosing nothing: of a slate looked at whole, item i is clicked with chance
            exp(utility_i) / (exp(outside) + sum over the slate of exp(utility)); in a cascade or dbn, once it is looked
            at, with chance sigmoid(utility_i - outside).
        cart_chance: (B, N + 1) chance of a cart given a click.
        purchase_chance: (B, N + 1) chance of a purchase given a click.
        quantity: (N + 1,) how many are bought on average when it is; by default 1.
    """

    utility: Tensor
    outside: Tensor
    cart_chance: Tensor
    purchase_chance: Tensor
    quantity: Tensor | float = 1.0
