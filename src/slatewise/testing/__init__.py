"""Batteries that hold what every shopper, encoder and policy promises, toy shoppers, and odd logs.

Of the toys the best slate is known; the logs are made of others, to try simulators on.

from slatewise.testing import check_shopper
check_shopper(MyShopper(), k=5)  # AssertionError says which promise is broken
"""

from .batteries import check_encoder, check_policy, check_shopper
from .logs import only_views, random_slates
from .toys import BaitShopper, OneFavouriteShopper

__all__ = [
    "BaitShopper",
    "OneFavouriteShopper",
    "check_encoder",
    "check_policy",
    "check_shopper",
    "only_views",
    "random_slates",
]
