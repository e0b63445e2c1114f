"""Fit a shopper of either family on a log, and write it as an artefact."""

from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Literal, get_args, overload

from ..datasets.artefact import building, is_finished
from ..datasets.log import ShopLog
from ..encoders.state import StateEncoder
from .artefacts import KIND, load_shopper, write_fitted
from .boosted import BoostedShopper
from .boosted_artefact import write_boosted
from .boosted_fit import BoostedConfig, fit_boosted
from .fit import FitConfig, fit_shopper
from .fitted import FittedShopper
from .replay import Progress

Family = Literal["transformer", "boosted"]
"""Kinds of fitted shoppers: one that follows sessions with an encoder, and one of boosted trees over columns counted by
hand. They share neither states nor the form of their choices, so that one can judge what the other taught."""


@overload
def fit(
    log: ShopLog,
    encoder: StateEncoder,
    out: Path | str,
    *,
    family: Literal["transformer"] = "transformer",
    encoder_path: Path | str | None = None,
    config: FitConfig | None = None,
    later: ShopLog | None = None,
    others: ShopLog | None = None,
    inputs: Mapping[str, str] | None = None,
    force: bool = False,
    progress: Progress | None = None,
) -> FittedShopper: ...


@overload
def fit(
    log: ShopLog,
    encoder: None,
    out: Path | str,
    *,
    family: Literal["boosted"],
    config: FitConfig | None = None,
    later: ShopLog | None = None,
    inputs: Mapping[str, str] | None = None,
    force: bool = False,
    progress: Progress | None = None,
) -> BoostedShopper: ...


def fit(
    log: ShopLog,
    encoder: StateEncoder | None,
    out: Path | str,
    *,
    family: Family = "transformer",
    encoder_path: Path | str | None = None,
    config: FitConfig | None = None,
    later: ShopLog | None = None,
    others: ShopLog | None = None,
    inputs: Mapping[str, str] | None = None,
    force: bool = False,
    progress: Progress | None = None,
) -> FittedShopper | BoostedShopper:
    """Fit a shopper and write it as an artefact of kind "shopper".

    Args:
        log: of the shop.
        encoder: the shopper's own; by good practice not the agent's, and one that learnt from other shoppers than those
            of `log`, see `fit_shopper`. None for the family "boosted", which has none.
        out: folder of the artefact.
        family: which kind of shopper, see `Family`.
        encoder_path: folder of the encoder's artefact, copied into the shopper's; may be left out where the encoder can
            write itself.
        config: settings; of a boosted shopper also a `boosted_fit.BoostedConfig`, which says how trees grow.
        later: sessions to judge the fit by, of the same catalogue; then `config.held_out` keeps none of `log` aside.
        others: sessions of other shoppers, from which carts and purchases are learnt too, see `fit_shopper`.
        inputs: name -> id of the artefacts read, recorded.
        force: replace a finished folder.
        progress: told of (done, total, words).

    Returns:
        The shopper; its `report` holds `evidence` (what was learned, what assumed), `parameters`, `held_out`,
        `calibration` and `counts`, and with an encoder `forms` (of examination, where they were compared) and `returns`
        and `quantities` (their calibration, where these were fitted): lists of plain rows, which are also in the
        artefact's facts.

    Raises:
        EvidenceError: the log holds too few clicks on slates and too few views.
        ArtefactError: `out` holds something else, or other settings, or the encoder cannot be stored.
        ValueError: the family needs an encoder and none is given, or the other way round; or it lacks the form of
            examination asked for, or does not learn from `others`.
    """
    if family not in get_args(Family):
        raise ValueError(f"family must be one of {', '.join(get_args(Family))}, got {family!r}")
    if (encoder is None) != (family == "boosted"):
        raise ValueError(
            f"family {family!r} takes {'no' if encoder is not None else 'an'} encoder; "
            f"{'give None' if encoder is not None else 'give the one that its shoppers follow sessions with'}"
        )
    if encoder is None and others is not None:
        raise ValueError("boosted shoppers learn from one log; leave `others` out")
    config = BoostedConfig.of(config) if encoder is None else config or FitConfig()
    settings = {"family": "fitted" if family == "transformer" else family, **asdict(config)}
    if not force and is_finished(Path(out), KIND, settings, dict(inputs or {})):
        shopper = load_shopper(out)
        assert isinstance(shopper, (FittedShopper, BoostedShopper))
        return shopper
    with building(Path(out), KIND, settings, inputs, force=force) as draft:
        if encoder is None:
            shopper = fit_boosted(log, config=config, later=later, progress=progress)
            facts = write_boosted(shopper.model, draft.folder)
        else:
            shopper = fit_shopper(log, encoder, config=config, later=later, others=others, progress=progress)
            path = None if encoder_path is None else Path(encoder_path)
            facts = write_fitted(shopper.model, encoder, path, draft.folder)
        shopper.report = {**shopper.report, **facts}
        draft.facts |= shopper.report
    return shopper
