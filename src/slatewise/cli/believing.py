"""`slatewise fit --report`: how far fitted shoppers can be believed, as a page in their folder."""

from pathlib import Path

from ..datasets.log import ShopLog
from .console import Reporter
from .inputs import Selection

PAGE = "realism.html"
"""Name of the page in a shopper's folder; beside it the same figures as JSON."""


def check_held_out(held_out: float) -> None:
    """Raise ValueError where no session is held out for a report to judge by."""
    if not held_out > 0:
        raise ValueError("--report judges shoppers by sessions held out; pass --held-out above 0")


def realism_step(reporter: Reporter, log_folder: Path, shopper_folder: Path, *, held_out: float, seed: int) -> Path:
    """Hold a shopper against the latest sessions of a log, and write the page into its finished folder.

    The folder's id is of what the shopper was made of, so a page that is added changes nothing for later steps.
    """
    from ..evaluation.realism_page import write_realism
    from ..simulators import load_shopper, realism

    log = Selection(held_out, "test").of(ShopLog.load(log_folder))
    with reporter.step("holding shoppers against sessions held out") as progress:
        found = realism(load_shopper(shopper_folder), log, seed=seed, progress=progress)
    return write_realism(shopper_folder / PAGE, found, shop=str(log.facts.get("source") or log_folder.name))
