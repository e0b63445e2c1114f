"""Whether an encoder learnt from the very sessions that a shopper is fitted on, which it foretells too well.

The shopper then takes the encoder's word for more than it is worth on other sessions; on small logs ruinously so.
"""

import warnings

from ..datasets.log import ShopLog
from ..encoders.learnt_from import sketch_of
from ..encoders.state import StateEncoder
from ..errors import SharedSessionsWarning
from .priors import ASSUMED, Evidence

SHARED = 0.05
"""Share of the sessions below which it does no harm that the encoder knows them."""


def shared_sessions(log: ShopLog, encoder: StateEncoder) -> list[Evidence]:
    """A row, and a warning, where the encoder learnt from sessions of the log; nothing where it does not tell.

    Args:
        log: the sessions learnt from.
        encoder: the shopper's.
    """
    sketch = sketch_of(encoder)
    known, tried = (0, 0) if sketch is None else sketch.shared(log)
    if known <= SHARED * tried:
        return []
    count = f"the encoder learnt from {known} of {tried} that were looked up"
    warnings.warn(
        f"of the sessions that the shopper is fitted on {count}; it foretells these better than others, the shopper "
        "believes it: pretrain it on other shoppers (ShopLog.shopper_half, or slatewise fit)",
        SharedSessionsWarning,
        stacklevel=3,
    )
    return [Evidence("sessions as new to the encoder as those to come", ASSUMED, count, float("nan"))]
