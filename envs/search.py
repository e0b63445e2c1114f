"""Searches: what shoppers ask for when they come, and what an agent is told of it.

Shapes: B rows (shoppers), Q searches, E width of their vectors, D state width, N items.
"""

from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike
from torch import Tensor
from torch.nn import functional as F

from ..datasets.catalogue import Catalogue
from ..encoders.session import ShopSessionModel
from ..encoders.state import StateEncoder
from ..simulators.shopper import Searches, Shopper

_SHARE = 0.5
"""Of a search beside a state, both of unit length, where the encoder does not read searches. In the small known-truth
shop, served what lies nearest to the state, shoppers click 0.013 +- 0.003 more on their first four slates than without
(0.70), and 0.2 to 0.7 do as well: what shoppers have viewed tells most of what they search for."""


class Search:
    """Vectors of a shopper's searches, and states turned towards them.

    An encoder that was trained with searches reads them: vectors are then its text encoder's, each slate's token is an
    answer to the search, and states are turned by `ShopSessionModel.towards`. For any other encoder a vector lies where
    the items lie, and half of it is added to the state.

    Args:
        shopper: who searches.
        encoder: of the states.
        catalogue: whose words are looked for, where there are no vectors.
        vectors: (Q + 1, E) of `shopper.queries`, row 0 zero. By default, for an encoder that does not read searches,
            the mean of the items that match one (see `matching`).

    Raises:
        ValueError: the shopper does not search, or the vectors are missing or of another shape.
    """

    def __init__(
        self, shopper: Shopper, encoder: StateEncoder, catalogue: Catalogue | None, vectors: ArrayLike | None
    ) -> None:
        if not isinstance(shopper, Searches):
            raise ValueError(
                f"search needs shoppers who say what they look for, and those of this {type(shopper).__name__} do not; "
                "take a known-truth shop: how searches change choices has not been fitted to any log"
            )
        self._shopper: Any = shopper
        self._encoder: Any = encoder
        self.texts = tuple(shopper.queries)
        self.reads = isinstance(encoder, ShopSessionModel) and encoder.config.query_dim > 0
        width = encoder.config.query_dim if isinstance(encoder, ShopSessionModel) and self.reads else encoder.dim
        if vectors is None:
            if self.reads or catalogue is None:
                raise ValueError(
                    f"pass query_vectors=, ({len(self.texts)}, {width}) text vectors of shopper.queries with a row of "
                    "zeros first" + (", from the text encoder of the items" if self.reads else ", or catalogue=")
                )
            table = torch.stack([matching(text, catalogue, encoder.item_vectors) for text in self.texts])
        else:
            table = torch.as_tensor(np.asarray(vectors), dtype=torch.float32)
            if table.shape != (len(self.texts), width) or table[0].any():
                raise ValueError(
                    f"query_vectors must have shape ({len(self.texts)}, {width}), a row for each of shopper.queries "
                    f"and zeros first, got {tuple(table.shape)}"
                )
        self.vectors = table.to(encoder.item_vectors.device)
        """(Q + 1, E) float32."""

    def asked(self, state: Any) -> Tensor:
        """(B,) int64 numbers of what shoppers in these states search for, on the encoder's device."""
        return self._shopper.searched(state).to(self.vectors.device)

    @torch.no_grad()
    def towards(self, states: Tensor, asked: Tensor) -> Tensor:
        """(B, D) unit states of shoppers (B, D) who search for what is asked, (B,)."""
        if self.reads:
            return self._encoder.towards(states, self.vectors[asked])
        return F.normalize(states + _SHARE * self.vectors[asked], dim=1)


def matching(query: str, catalogue: Catalogue, item_vectors: Tensor) -> Tensor:
    """(D,) unit mean of the vectors of the items whose category or text has all words of a search; zeros for none.

    Args:
        query: words; upper and lower case are one.
        catalogue: of N items.
        item_vectors: (N + 1, D).
    """
    words = query.lower().split()
    if not words:
        return torch.zeros_like(item_vectors[0])
    frame = catalogue.frame[["category", "text"]].astype(object).fillna("")
    said = (frame["category"].astype(str) + " " + frame["text"].astype(str)).str.lower().str.split()
    found = np.array([all(word in own for word in words) for own in said])
    mean = item_vectors[1:][torch.from_numpy(found).to(item_vectors.device)].sum(0)
    return F.normalize(mean, dim=0)
