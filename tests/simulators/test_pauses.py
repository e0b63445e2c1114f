"""Time on slates: what was put in is found again, a visit keeps its pace, and what is brought along tells of it."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from scipy.stats import kstest

from slatewise.datasets.known_shop import KnownShop, KnownShopConfig
from slatewise.datasets.log import ShopLog
from slatewise.datasets.schema import Event
from slatewise.encoders.mean import MeanEncoder
from slatewise.errors import ArtefactError
from slatewise.simulators import (
    BoostedShopper,
    FitConfig,
    FittedShopper,
    KnownTruthShopper,
    Priors,
    collect_log,
    fit,
    fit_boosted,
    fit_shopper,
    load_shopper,
)
from slatewise.simulators.fitted import Arrivals
from slatewise.simulators.pauses import Pauses, outcome_of
from slatewise.simulators.pauses_fit import LearnedPauses, learn_pauses
from slatewise.simulators.priors import ASSUMED, LEARNED
from slatewise.simulators.shopper import TokenBatch
from slatewise.testing import check_shopper, random_slates

TRUE = Pauses(
    mean=torch.tensor([3.0, 3.5, 3.6, 2.5]),
    spread=torch.tensor([0.7, 0.8, 0.9, 0.6]),
    pace=torch.tensor(0.6),
    aside=torch.tensor([0.2, 1.0, 2.5]),
)
FIRST = "time on a visit's first slate, over that on others"
PACE = "how far shoppers differ in pace (sd of log seconds)"


def drawn(law: Pauses, sessions: int, seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Seconds, outcomes and sessions of some pauses, one to twelve a session."""
    rng = np.random.default_rng(seed)
    session = np.repeat(np.arange(sessions), rng.integers(1, 13, sessions))
    outcome = rng.choice(4, len(session), p=[0.6, 0.25, 0.1, 0.05])
    pace = float(law.pace) * torch.from_numpy(rng.normal(size=sessions)[session])
    luck = torch.from_numpy(rng.random((len(session), 2)))
    return law.drawn(torch.from_numpy(outcome), pace, luck).numpy(), outcome, session


def learnt(law: Pauses, sessions: int = 1_000, seed: int = 0) -> LearnedPauses:
    """What is learnt of pauses drawn from a law."""
    seconds, outcome, session = drawn(law, sessions, seed)
    return learn_pauses(seconds, outcome, session, np.ones(len(session)), Priors(), 20)


@pytest.fixture(scope="module")
def shop() -> KnownShop:
    return KnownShop.make(KnownShopConfig.small())


@pytest.fixture(scope="module")
def log(shop: KnownShop) -> ShopLog:
    return collect_log(KnownTruthShopper(shop), shop.catalogue, sessions=300, k=6, seed=1)


@pytest.fixture(scope="module")
def fitted(log: ShopLog, shop: KnownShop) -> FittedShopper:
    return fit_shopper(log, MeanEncoder.from_catalogue(shop.catalogue), config=FitConfig(members=3, held_out=0))


@pytest.fixture(scope="module")
def boosted(log: ShopLog) -> BoostedShopper:
    return fit_boosted(log, config=FitConfig(held_out=0))


def paced(shopper: FittedShopper | BoostedShopper, law: Pauses = TRUE) -> FittedShopper | BoostedShopper:
    """The shopper with another law."""
    if isinstance(shopper, FittedShopper):
        return FittedShopper(replace(shopper.model, own=replace(shopper.model.own, dwell=law)), shopper.encoder)
    return BoostedShopper(replace(shopper.model, own=replace(shopper.model.own, dwell=law)))


@pytest.mark.parametrize("pace", [0.3, 0.6, 1.0])
def test_the_law_is_found_again(pace: float) -> None:
    found = learnt(replace(TRUE, pace=torch.tensor(pace)))
    row = found.evidence[1]
    assert (row.quantity, row.source) == (PACE, LEARNED)
    half = (row.high - row.low) / 2
    assert abs(row.value - pace) < 1.6 * half < 0.16  # three standard errors
    assert float(found.pauses.pace) == pytest.approx(row.value)
    torch.testing.assert_close(found.pauses.mean[:3], TRUE.mean[:3], atol=0.12, rtol=0)
    torch.testing.assert_close(found.pauses.spread[:3], TRUE.spread[:3], atol=0.12, rtol=0)
    torch.testing.assert_close(found.pauses.aside, TRUE.aside, atol=0.35, rtol=0)


def test_intervals_hold_the_truth_as_often_as_they_say() -> None:
    rows = [learnt(TRUE, 150, seed).evidence[1] for seed in range(40)]
    held = sum(row.low < 0.6 < row.high for row in rows)
    assert held >= 34  # of 40 at 95 %: fewer in one run of 300


def test_shoppers_alike_in_pace_are_found_alike() -> None:
    alike = learnt(replace(TRUE, pace=torch.tensor(0.0)))
    assert float(alike.pauses.pace) < 0.15


def test_a_log_without_a_clock_takes_the_prior_and_no_pace() -> None:
    nothing = np.full(100, np.nan)
    zero = np.zeros(100, np.int64)
    found = learn_pauses(nothing, zero, zero, np.ones(100), Priors(seconds_per_slate=12.0), 20)
    assert found.evidence[0].source == ASSUMED
    assert float(found.pauses.pace) == 0
    luck = torch.rand(4_000, 2, generator=torch.Generator().manual_seed(0))
    seconds = found.pauses.drawn(torch.zeros(4_000, dtype=torch.int64), torch.zeros(4_000), luck)
    assert float(seconds.median()) == pytest.approx(12.0, rel=0.1)


def test_sessions_of_one_pause_tell_no_pace() -> None:
    seconds, outcome, session = drawn(TRUE, 300, 0)
    first = np.unique(session, return_index=True)[1]
    found = learn_pauses(seconds[first], outcome[first], session[first], np.ones(300), Priors(), 20)
    assert float(found.pauses.pace) == 0
    assert (found.evidence[1].source, found.evidence[1].value) == (ASSUMED, 0.0)


def test_sessions_count_as_often_as_they_are_weighted() -> None:
    seconds, outcome, session = drawn(TRUE, 200, 0)
    often = np.random.default_rng(3).integers(0, 3, 200)
    weighted = learn_pauses(seconds, outcome, session, often[session].astype(float), Priors(), 20)
    # Each session as often as it counts, under numbers of its own.
    rows = np.concatenate([np.flatnonzero(session == one) for one in range(200) for _ in range(often[one])])
    copies = np.concatenate(
        [np.full((session == one).sum(), 10 * one + copy) for one in range(200) for copy in range(often[one])]
    )
    copied = learn_pauses(seconds[rows], outcome[rows], copies, np.ones(len(rows)), Priors(), 20)
    torch.testing.assert_close(weighted.pauses.mean, copied.pauses.mean, atol=2e-3, rtol=0)
    torch.testing.assert_close(weighted.pauses.pace, copied.pauses.pace, atol=2e-3, rtol=0)


def test_pauses_foretold_from_earlier_ones_are_as_likely_as_said() -> None:
    seconds, outcome, session = (torch.from_numpy(one) for one in drawn(TRUE, 1_500, 5))
    told, below = TRUE.foretold(session, seconds, outcome)
    assert kstest(below.numpy(), "uniform").pvalue > 0.01
    alone, _ = TRUE.foretold(torch.arange(len(session)), seconds, outcome)
    assert float((told - alone).mean()) > 0.05
    first = torch.from_numpy(np.unique(session.numpy(), return_index=True)[1])
    torch.testing.assert_close(told[first], alone[first])


@pytest.mark.parametrize("adds", [0.4, -0.3])
def test_what_a_first_slate_adds_is_found_again(adds: float) -> None:
    seconds, outcome, session = drawn(TRUE, 500, 8)
    first = np.append(True, session[1:] != session[:-1])
    seconds = np.where(first, seconds * np.exp(adds), seconds)
    given = outcome, session, np.ones(len(session)), Priors(), 20
    found = learn_pauses(seconds, *given, first=first)
    row = found.evidence[2]
    assert (row.quantity, row.source) == (FIRST, LEARNED)
    assert row.low < np.exp(adds) < row.high < 1.3 * row.low
    assert float(found.pauses.first) == pytest.approx(adds, abs=0.15)
    told, below = found.pauses.foretold(*map(torch.from_numpy, (session, seconds, outcome, first)))
    assert kstest(below.numpy(), "uniform").pvalue > 0.01
    without, _ = learn_pauses(seconds, *given).pauses.foretold(*map(torch.from_numpy, (session, seconds, outcome)))
    assert float((told - without).mean()) > 0.003
    for alike in (np.zeros_like(first), np.ones_like(first)):
        same = learn_pauses(seconds, *given, first=alike)
        assert float(same.pauses.first) == 0
        assert len(same.evidence) == 2


@pytest.mark.parametrize("family", ["fitted", "boosted"])
def test_a_first_slate_takes_its_own_time(family: str, request: pytest.FixtureRequest) -> None:
    shopper = paced(request.getfixturevalue(family))
    longer = paced(shopper, replace(TRUE, first=torch.tensor(0.5)))
    one, other = shopper.reset(torch.arange(64)), longer.reset(torch.arange(64))
    for turn, adds in enumerate((0.5, 0.0, 0.0)):
        slate = random_slates(64, 6, shopper.n_items, seed=turn)
        usual, one = shopper.respond(one, slate)  # pyright: ignore[reportArgumentType]
        found, other = longer.respond(other, slate)  # pyright: ignore[reportArgumentType]
        torch.testing.assert_close(found.dwell.log(), usual.dwell.log() + adds, atol=1e-4, rtol=0)
        other.gap, one.gap = one.gap.clone(), one.gap.clone()


@pytest.mark.parametrize("family", ["fitted", "boosted"])
def test_a_visit_keeps_its_pace(family: str, request: pytest.FixtureRequest) -> None:
    shopper = paced(request.getfixturevalue(family))
    state = shopper.reset(torch.arange(6_000))
    left = []
    for turn in range(2):
        slate = random_slates(6_000, 6, shopper.n_items, seed=turn)
        response, state = shopper.respond(state, slate)  # pyright: ignore[reportArgumentType]
        hit = response.clicked >= 0
        code = hit.long() + (hit & response.carted).long() + (hit & response.purchased).long()
        left.append((response.dwell.log() - TRUE.mean[code]) / TRUE.spread[code])
    # Pauses drawn from the law itself, two of each pace, where nothing was clicked.
    luck = torch.rand(2, 60_000, 2, generator=torch.Generator().manual_seed(1))
    pace = 0.6 * torch.randn(60_000, generator=torch.Generator().manual_seed(2))
    nothing = torch.zeros(60_000, dtype=torch.int64)
    pairs = torch.stack([TRUE.drawn(nothing, pace, one) for one in luck]).log()
    assert float(torch.corrcoef(torch.stack(left))[0, 1]) == pytest.approx(float(torch.corrcoef(pairs)[0, 1]), abs=0.05)
    assert float(torch.corrcoef(pairs)[0, 1]) > 0.15


def test_a_shopper_goes_on_at_the_pace_it_arrived_with(fitted: FittedShopper, boosted: BoostedShopper) -> None:
    rows, w = 4_000, 6
    rng = torch.Generator().manual_seed(0)
    pace = 0.6 * torch.randn(rows, generator=rng)
    clicks = torch.ones(rows * w, dtype=torch.int64)
    gaps = TRUE.drawn(clicks, pace.repeat_interleave(w), torch.rand(rows * w, 2, generator=rng)).reshape(rows, w)
    gap = gaps[:, 0].clone()
    gaps[:, 0] = 0
    tokens = TokenBatch(torch.ones_like(gaps).long(), torch.full(gaps.shape, Event.CLICK), gaps, torch.full((rows,), w))
    came = Arrivals(tokens, gap)
    for shopper in (paced(fitted), paced(boosted)):
        state = shopper.arrive(torch.arange(rows), came)
        assert float(torch.corrcoef(torch.stack([state.pace, pace]))[0, 1]) > 0.5
        assert float(state.pace.std()) == pytest.approx(0.6, abs=0.04)  # right posteriors leave the whole spread
        assert abs(float((state.pace - pace).mean())) < 0.04
    empty = TokenBatch(*(torch.zeros_like(one) for one in (tokens.items, tokens.events, gaps, tokens.lengths)))
    unknown = paced(fitted).arrive(torch.arange(rows), Arrivals(empty, torch.zeros(rows)))
    assert kstest(unknown.pace.numpy() / 0.6, "norm").pvalue > 0.01


def test_events_stand_for_outcomes() -> None:
    events = torch.tensor([Event.IMPRESSION, Event.VIEW, Event.CLICK, Event.CART, Event.PURCHASE, Event.UNCART, 0])
    assert outcome_of(events).tolist() == [0, 1, 1, 2, 3, 0, 0]


def test_members_have_a_pace_of_their_own_and_keep_the_promises(fitted: FittedShopper) -> None:
    assert fitted.model.members is not None
    assert fitted.model.members.dwell.pace.shape == (3,)
    assert len(fitted.model.members.dwell.mean.unique()) > 4
    check_shopper(fitted.ensemble(), k=6)
    check_shopper(paced(fitted), k=6)


def test_a_boosted_shopper_with_a_pace_keeps_the_promises(boosted: BoostedShopper) -> None:
    check_shopper(paced(boosted), k=6)


def test_a_folder_of_the_law_before_is_refused(log: ShopLog, shop: KnownShop, tmp_path: Path) -> None:
    made = fit(
        log, MeanEncoder.from_catalogue(shop.catalogue), tmp_path, config=FitConfig(held_out=0, members=2), force=True
    )
    read = load_shopper(tmp_path)
    assert isinstance(read, FittedShopper)
    assert read.model.members is not None
    assert made.model.members is not None
    assert torch.equal(read.model.own.dwell.aside, made.model.own.dwell.aside)
    assert torch.equal(read.model.members.dwell.pace, made.model.members.dwell.pace)
    tensors = load_file(tmp_path / "shopper.safetensors")
    kept = {name: one for name, one in tensors.items() if not name.startswith(("own.dwell.", "members.dwell."))}
    save_file({**kept, "own.dwell": torch.zeros(4, 2)}, tmp_path / "shopper.safetensors")
    with pytest.raises(ArtefactError, match="fit it anew"):
        load_shopper(tmp_path)
