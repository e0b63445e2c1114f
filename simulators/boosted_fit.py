"""Fit a boosted shopper on a log: the same evidence, priors and judgement as of the other kind, and no encoder.

Shapes: S occasions, N items.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, fields, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from ..datasets.log import ShopLog
from .arrivals import Arrivals
from .boosted import BoostedShopper
from .boosted_choice import BoostedChoice, Offers, Stopping, examination_errors, fit_boosted_choice
from .boosted_learn import Learner
from .boosted_looks import Looks
from .boosted_model import BoostedModel, BoostedParts
from .choice import NEVER
from .choice_evidence import choice_evidence
from .ensemble import resampled
from .features import Slots
from .fit import FitConfig
from .given_click import LEVELS, first_level, level_of_nothing, popular_slates
from .ground import Ground
from .hand_features import (
    CHOICE_COLUMNS,
    ITEM_COLUMNS,
    LEAVING_COLUMNS,
    SHOPPER_COLUMNS,
    item_columns,
    learn_tables,
    shopper_columns,
)
from .latest import latest
from .learn import arrivals
from .observed import After
from .priors import Evidence, Priors
from .replay import Progress
from .trees import TreeConfig

LATE = 0.2
"""Share of the sessions learnt from, the latest, that say how many trees help."""
LATE_CLICKS = 40
"""Clicks among them that let them say it."""
FEW_ROUNDS = 20
"""Trees where they cannot."""
RIVALS: dict[str, tuple[str, ...]] = {
    "position": ("nothing", "size"),
    "position and popularity": ("nothing", "size", "popularity", "liked"),
    "all but the session": ("nothing", "size", "price", "price_in_category", "popularity", "liked"),
}
"""Simpler choice models: the columns that their trees may read."""


@dataclass(frozen=True, kw_only=True)
class BoostedConfig(FitConfig):
    """Settings of a boosted fit; `weight_sd` and `alike_sd` have no say in it."""

    trees: TreeConfig = field(default_factory=TreeConfig)
    """How trees are grown."""

    @classmethod
    def of(cls, config: FitConfig | None) -> "BoostedConfig":
        """The settings given, with the default trees where they say nothing of trees.

        Raises:
            ValueError: they ask for a form of examination that boosted shoppers lack.
        """
        if config is not None and config.examination != "depth":
            raise ValueError(f"boosted shoppers look to a depth; examination must be depth, got {config.examination!r}")
        if isinstance(config, BoostedConfig):
            return config
        return cls(**({} if config is None else {one.name: getattr(config, one.name) for one in fields(FitConfig)}))


def fit_boosted(
    log: ShopLog,
    *,
    config: FitConfig | None = None,
    later: ShopLog | None = None,
    progress: Progress | None = None,
) -> BoostedShopper:
    """A boosted shopper; nothing is written.

    Args:
        log: of the shop.
        config: settings; a `BoostedConfig` also says how trees grow.
        later: sessions to judge the fit by, of the same catalogue; then `config.held_out` keeps none of `log` aside.
        progress: told of (done, total, words).

    Returns:
        The shopper, with its `report` as of `fit`.

    Raises:
        EvidenceError: the log holds too few clicks on slates and too few views.
    """
    settings = BoostedConfig.of(config)
    rng = np.random.default_rng(settings.seed)
    ground = Ground.of(log, settings, later, rng)
    late = latest(ground.log, LATE)
    after = After.of_slates(ground.log.slates) if ground.from_slates else After.of_views(ground.log, ground.occasions)
    came, arrived = arrivals(ground.log, settings.max_arrivals, rng, settings.priors.arrival_views)
    learner = Learner(ground, after, late, arrived, settings)
    looks = learner.looks(np.ones(len(late)), progress)
    whole = looks.offers()
    choice, rivals, stopping = _choices(ground, late, whole, settings, progress)
    shopper, evidence = _assembled(learner, looks, choice, rivals, stopping, came, progress)
    errors = examination_errors(choice, whole, settings.priors.position_decay)
    looking = choice_evidence(ground.log, ground.occasions, choice.proceed, errors, settings.priors)
    parameters = _parameters(shopper.model, errors)
    shopper.report = ground.report(shopper, [*looking, *evidence], parameters, settings.seed, progress)
    return shopper


def _choices(
    ground: Ground, late: NDArray[np.bool_], whole: Offers, config: BoostedConfig, progress: Progress | None
) -> tuple[BoostedChoice, dict[str, BoostedChoice], Stopping]:
    """Examination and choice, their rivals, and what later slates say of how many trees to grow."""
    rows = late[ground.occasions.session]
    early, judges = whole, None
    if (ground.occasions.clicked[rows] >= 0).sum() >= LATE_CLICKS and not rows.all():
        looks = Looks.across_folds(ground.log, ground.occasions, np.ones(len(late)), ~late, config.seed, progress)
        early, judges = looks.offers(rows=~rows), looks.offers(rows=rows)
    wanted = {"": CHOICE_COLUMNS, **RIVALS}
    found: dict[str, BoostedChoice] = {}
    told: list[NDArray[np.float32]] = []

    def fit(
        columns: Sequence[str], level: float | None, told: list[NDArray[np.float32]] | None = None
    ) -> BoostedChoice:
        decay = config.priors.position_decay
        rest: Any = {
            "position_decay": decay,
            "config": config.trees,
            "rounds": FEW_ROUNDS,
            "level": level,
            "told": told,
        }
        return fit_boosted_choice(early, judges, whole, columns, **rest)

    level = _level(ground, config, lambda level: fit(CHOICE_COLUMNS, level)) if whole.given_click else None
    for number, (name, columns) in enumerate(wanted.items()):
        if progress:
            progress(number, len(wanted), f"fitting a rival: {name}" if name else "fitting examination and choice")
        found[name] = fit(columns, level, None if name else told)
    return found.pop(""), found, Stopping(told, ground.occasions.session[rows])


def _level(ground: Ground, config: BoostedConfig, fit: Callable[[float], BoostedChoice]) -> float:
    """The level of nothing at which slates of popular items are clicked at the assumed rate, see `given_click`."""
    priors = config.priors
    everyone = np.ones(len(ground.log))
    tables = learn_tables(ground.log, ground.occasions, everyone, everyone > 0)
    best = popular_slates(ground.occasions, tables.popularity, priors.slate_size)
    offers = Looks.at(ground.log, best, tables).offers()
    level = first_level(priors.click_rate, priors.position_decay, priors.slate_size)
    for _ in range(LEVELS - 1):
        choice = fit(level)
        utility, rest = (torch.from_numpy(part) for part in offers.laid_out(choice.scores(offers.x)))
        level = level_of_nothing(utility, rest, choice.proceed, priors.click_rate)
    return level


def _assembled(
    learner: Learner,
    looks: Looks,
    choice: BoostedChoice,
    rivals: dict[str, BoostedChoice],
    stopping: Stopping,
    came: Arrivals,
    progress: Progress | None,
) -> tuple[BoostedShopper, list[Evidence]]:
    """The shopper, and what its parts but for examination and choice rest on."""
    ground, config = learner.ground, learner.config
    learned = learner.parts(looks, choice, np.ones(len(ground.log)))
    members: list[BoostedParts] = []
    for number, drawn in enumerate(resampled(ground.log, config.members, config.seed)):
        if progress:
            progress(number, config.members, "fitting the ensemble")
        members.append(learner.again(drawn, learned.parts, stopping))
    model = BoostedModel(
        own=learned.parts,
        arrivals=came,
        prices=torch.from_numpy(ground.log.catalogue.prices),
        from_slates=ground.from_slates,
        leaving_known=learned.leaving_known,
        usual_size=Slots.of(looks.filled).usual,
        rivals=rivals,
        members=tuple(members),
    )
    if not ground.click_rate_known:
        own, *members = (_with_click_rate(replace(model, own=parts), config.priors) for parts in (model.own, *members))
        model = replace(model, own=own, members=tuple(members))
    return BoostedShopper(model), learned.evidence


def _with_click_rate(model: BoostedModel, priors: Priors) -> BoostedParts:
    """The model's own parts, with clicks as frequent as the prior has them."""
    nothing = _nothing_for_click_rate(BoostedShopper(model), priors.click_rate, priors.slate_size)
    return replace(model.own, choice=replace(model.own.choice, nothing=nothing))


@torch.no_grad()
def _nothing_for_click_rate(shopper: BoostedShopper, rate: float, k: int, shoppers: int = 512) -> float:
    """Utility of clicking nothing at which a first slate of the most popular items is clicked at a given rate."""
    tables, choice = shopper.model.own.tables, shopper.model.own.choice
    trail = shopper.reset(torch.arange(shoppers)).trail
    slate = (tables.popularity[1:].topk(min(k, shopper.n_items)).indices + 1).expand(shoppers, -1)
    utility, rest = shopper.utilities(choice, item_columns(trail, slate, tables), shopper_columns(trail), slate > 0)
    assert bool((utility > NEVER).all())
    return level_of_nothing(utility.double(), rest.double() - choice.nothing, choice.proceed, rate)


def _parameters(model: BoostedModel, errors: NDArray[np.float64]) -> list[dict[str, Any]]:
    """One row a parameter that a person can read: chances to look on, shares of the trees' gain, regressions."""
    rows = []

    def add(part: str, name: str, unit: str, value: float, error: float | None = None) -> None:
        low, high = (None, None) if error is None else (value - 1.96 * error, value + 1.96 * error)
        rows.append(
            {"part": part, "name": name, "unit": unit, "value": value, "error": error, "low": low, "high": high}
        )

    trees = model.own.choice.trees
    if trees is not None:
        gains = trees.gains()
        for name, gain in zip(CHOICE_COLUMNS, gains / max(gains.sum(), 1e-12), strict=True):
            add("choice", name, "share of the trees' gain", float(gain))
    if model.from_slates:
        proceed = model.own.choice.proceed.numpy()
        for place, (value, error) in enumerate(zip(proceed, errors, strict=True), start=1):
            ending = "_on" if place == len(proceed) else ""
            add("examination", f"look_on_from_{place}{ending}", "1", float(value), float(error))
    step_columns = ITEM_COLUMNS + SHOPPER_COLUMNS
    stages = (("cart", model.own.cart, step_columns), ("purchase", model.own.purchase, step_columns))
    for part, hazard, columns in (*stages, ("leaving", model.own.leaving, LEAVING_COLUMNS)):
        for name, value in zip(("always", *columns), hazard.weights, strict=True):
            if value:
                add(part, name, "sd", float(value))
    return rows
