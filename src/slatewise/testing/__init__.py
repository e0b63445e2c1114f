"""Batteries that hold what every shopper, encoder and policy promises, and toy shoppers whose best slate is known.

from slatewise.testing import check_shopper
check_shopper(MyShopper(), k=5)  # AssertionError says which promise is broken
"""

from .batteries import check_encoder, check_policy, check_shopper
from .toys import BaitShopper, OneFavouriteShopper

__all__ = ["BaitShopper", "OneFavouriteShopper", "check_encoder", "check_policy", "check_shopper"]
