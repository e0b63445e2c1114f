"""What a fit rests on, whatever kind of shopper is fitted: sessions to learn from and to judge by, and choices."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from ..datasets.log import ShopLog
from ..errors import EvidenceError
from .choice_evidence import all_clicked
from .fit_judged import judged
from .foretold import Foretells
from .gaps import gaps
from .latest import latest
from .occasions import Occasions, following_views, next_views
from .priors import Evidence, evidence_table
from .replay import Progress
from .report import records
from .returning import Revisits

if TYPE_CHECKING:
    from .fit import FitConfig


@dataclass(frozen=True, slots=True)
class Ground:
    """What a fit rests on, whatever kind of shopper is fitted.

    Attributes:
        log: the sessions to learn from. held: those to judge by, if any.
        occasions: slates or next views of `log`.
        visits: whether and when the shoppers of these sessions came again.
    """

    log: ShopLog
    held: ShopLog | None
    occasions: Occasions
    visits: Revisits

    @classmethod
    def of(cls, log: ShopLog, config: "FitConfig", later: ShopLog | None, rng: np.random.Generator) -> "Ground":
        """The ground of a fit; `later` sessions judge in place of the latest of `log`, and `rng` draws what is used.

        Raises:
            EvidenceError: the log holds too few clicks on slates and too few views.
        """
        train, held = _split(log, config.held_out) if later is None else (log, later)
        from_slates = _enough(train, config, 0 if held is None or later is not None else len(held))
        whole = train
        train = _capped(train, config.max_slots, rng) if from_slates else train
        if from_slates:
            occasions = Occasions.of_slates(train.slates, all_clicked(train))
        else:
            occasions = next_views(train, alternatives=config.alternatives, most=config.max_next_views, rng=rng)
        return cls(train, held, occasions, Revisits.of(whole, train))

    @property
    def from_slates(self) -> bool:
        """Whether choices are learnt from slates; otherwise from next views."""
        return self.occasions.correction is None

    @property
    def click_rate_known(self) -> bool:
        """Whether the log tells how often a slate is not clicked."""
        return self.from_slates and not self.occasions.given_click

    def beside(self, others: ShopLog, most: int, rng: np.random.Generator) -> ShopLog:
        """Of other sessions those that began before any that judges; so many that their slates hold `most` slots."""
        if self.held is not None:
            first = self.held.sessions["start"].min()
            others = others.part(np.flatnonzero((others.sessions["start"] < first).to_numpy()))
        return _capped(others, most, rng)

    def report(
        self,
        shopper: Foretells,
        evidence: list[Evidence],
        parameters: list[dict[str, Any]],
        seed: int,
        progress: Progress | None,
    ) -> dict[str, Any]:
        """Figures of a fit, see `fit_family.fit`."""
        found: dict[str, Any] = {
            "counts": _counts(self.log, self.from_slates, len(self.occasions)),
            "evidence": records(evidence_table([*evidence, *gaps(self.log, self.from_slates)])),
            "parameters": parameters,
        }
        return found if self.held is None else found | judged(shopper, self.held, seed, progress)


def _split(log: ShopLog, share: float) -> tuple[ShopLog, ShopLog | None]:
    """Sessions to learn from and, by start, the latest `share` of them; none where that leaves no session."""
    late = latest(log, share)
    if late.all() or not late.any():
        return log, None
    return log.part(np.flatnonzero(~late)), log.part(np.flatnonzero(late))


def _enough(log: ShopLog, config: "FitConfig", aside: int) -> bool:
    """Whether choices can be learnt from slates; otherwise from next views. `aside` is how many sessions are kept so.

    Raises:
        EvidenceError: from neither.
    """
    clicks = int((log.slates.clicked >= 0).sum())
    if clicks >= config.min_clicks:
        return True
    following = int(following_views(log).sum())
    if following >= config.min_views:
        return False
    advice = "ingest a longer log"
    if log.clicks_elsewhere:
        advice = (
            f"{log.clicks_elsewhere} more clicks are on what their slates did not show: check slate_id and item_id, "
            f"or {advice}"
        )
    elif not clicks and len(log.slates):
        advice = f"log clicks with the slate_id of what was shown, or {advice}"
    if aside:
        advice += f"; {aside} more sessions are kept aside by held_out={config.held_out}"
    raise EvidenceError(
        f"{len(log)} sessions hold {clicks} clicks on {len(log.slates)} slates, and {following} views that follow "
        f"another, but {config.min_clicks} such clicks or {config.min_views} such views are needed; {advice}"
    )


def _capped(log: ShopLog, most: int, rng: np.random.Generator) -> ShopLog:
    """Sessions drawn at random so that their slates hold about `most` slots at most."""
    share = most / max(log.slates.items.size, 1)
    return log if share >= 1 else log.part(rng.random(len(log)) < share)


def _counts(log: ShopLog, from_slates: bool, occasions: int) -> dict[str, Any]:
    slates = log.slates
    hit = slates.clicked >= 0
    return {
        "sessions": len(log),
        "shoppers": int(log.sessions["shopper_id"].nunique()),
        "learned_from": "slates" if from_slates else "next views",
        "occasions": occasions,
        "slates": len(slates),
        "clicks": int(hit.sum()),
        "carts": int((hit & (slates.carted | slates.purchased)).sum()),
        "purchases": int((hit & slates.purchased).sum()),
    }
