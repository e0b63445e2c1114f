"""What the session encoder says after each token."""

from dataclasses import dataclass

from torch import Tensor
from transformers.utils.generic import ModelOutput


@dataclass
class ShopSessionOutput(ModelOutput):
    """What the model says after each token; position 0 is before the first.

    Attributes:
        states: (B, T + 1, D) unit length.
        event_logits: (B, T + 1, N_EVENTS) of the next token's event.
        end_logits: (B, T + 1) of the session ending here.
        purchase_logits: (B, T + 1) of a purchase later in the session.
        gap_logits: (B, T + 1, len(GAP_EDGES) + 1) of the time until the next token, by `gap_buckets`.
        last_hidden_state: (B, T + 1, D) of the last block.
    """

    # Always set; a `ModelOutput` wants defaults.
    states: Tensor = None  # pyright: ignore[reportAssignmentType]
    event_logits: Tensor = None  # pyright: ignore[reportAssignmentType]
    end_logits: Tensor = None  # pyright: ignore[reportAssignmentType]
    purchase_logits: Tensor = None  # pyright: ignore[reportAssignmentType]
    gap_logits: Tensor = None  # pyright: ignore[reportAssignmentType]
    last_hidden_state: Tensor = None  # pyright: ignore[reportAssignmentType]
