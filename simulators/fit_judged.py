"""What the sessions kept aside say of a fitted shopper."""

from typing import Any

from ..datasets.log import ShopLog
from ..errors import EvidenceError
from .calibration import calibration_table
from .foretold import Foretells
from .likelihood import slate_likelihood
from .quantities_fit import Bought, quantity_calibration
from .replay import Progress
from .report import records
from .returning import Revisits
from .returning_fit import return_calibration
from .shopper_model import ShopperModel


def judged_after(model: ShopperModel, held: ShopLog, visits: Revisits, fitted: set[str]) -> dict[str, Any]:
    """What the sessions kept aside, and their visits, say of coming again and of quantities, where fitted."""
    found: dict[str, Any] = {}
    if "coming again" in fitted:
        found["returns"] = records(return_calibration(model.own.returning, visits))
    if "quantity" in fitted:
        found["quantities"] = records(quantity_calibration(model.own.quantities, Bought.of(held)))
    return found


def judged(shopper: Foretells, held: ShopLog, seed: int, progress: Progress | None) -> dict[str, Any]:
    """What the sessions kept aside say; where they hold no occasion, that they say nothing."""
    try:
        seen = shopper.foretell(held, seed=seed, progress=progress)
    except EvidenceError:
        return {
            "held_out_counts": dict.fromkeys(("sessions", "slates", "clicks"), 0),
            "held_out": [],
            "calibration": [],
        }
    judged = slate_likelihood(shopper, seen, seed=seed)
    totals = {"sessions": judged.sessions, "slates": judged.slates, "clicks": judged.clicks}
    return {
        "held_out_counts": totals,
        "held_out": records(judged.table),
        "calibration": records(calibration_table(shopper, seen)),
    }
