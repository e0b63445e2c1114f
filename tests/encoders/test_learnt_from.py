"""What an encoder keeps of the sessions it learnt from, and what a shopper's fit makes of it."""

import warnings
from pathlib import Path

import numpy as np
import pytest

from slatewise.datasets.log import ShopLog
from slatewise.encoders.learnt_from import SKETCH, SessionSketch, session_hashes, sketch_of
from slatewise.encoders.loading import load_encoder
from slatewise.encoders.mean import MeanEncoder
from slatewise.encoders.pretrain import PretrainConfig, pretrain
from slatewise.encoders.transfer import grow
from slatewise.errors import SharedSessionsWarning
from slatewise.simulators import FitConfig, fit_shopper

TINY = PretrainConfig(width=16, layers=1, heads=2, feed_forward=16, window=8, epochs=1, batch_tokens=192)
FIT = FitConfig(held_out=0, members=0, min_views=50)


def numbered(hashes: range, below: int) -> SessionSketch:
    return SessionSketch(tuple(hashes), below)


def test_a_session_has_the_same_hash_in_every_part_of_a_log(small_log: ShopLog) -> None:
    whole = session_hashes(small_log)
    assert len(np.unique(whole)) == len(small_log)
    rows = np.arange(3, len(small_log), 7)
    np.testing.assert_array_equal(session_hashes(small_log.part(rows)), whole[rows])
    events = small_log.events.assign(time=small_log.events["time"] + np.timedelta64(1, "s"))
    assert not set(session_hashes(ShopLog(events, small_log.catalogue)).tolist()) & set(whole.tolist())


def test_a_share_is_estimated_from_few_hashes(small_log: ShopLog) -> None:
    assert len(small_log) > SKETCH + 50
    n = len(small_log)
    sketch = SessionSketch.of(small_log.part(np.arange(n // 2 + 50)))
    assert len(sketch.hashes) == min(SKETCH, n // 2 + 50)
    known, tried = sketch.shared(small_log)
    assert known == len(sketch.hashes)
    share = (n // 2 + 50) / n
    assert known / tried == pytest.approx(share, abs=4 * np.sqrt(share * (1 - share) / tried))
    assert sketch.shared(small_log.part(np.arange(n // 2 + 50, n)))[0] == 0
    assert SessionSketch.from_list(sketch.to_list()) == sketch


def test_two_sketches_join_to_that_of_both(small_log: ShopLog) -> None:
    half = len(small_log) // 2
    one, two = (SessionSketch.of(small_log.part(rows)) for rows in np.split(np.arange(2 * half), 2))
    assert one.joined(two) == SessionSketch.of(small_log.part(np.arange(2 * half)))
    # What lies above either's end is not known of both.
    assert numbered(range(0, 20, 2), 20).joined(numbered(range(1, 9), 10)) == SessionSketch((*range(9),), 10)


def test_a_fit_warns_of_an_encoder_that_learnt_from_its_sessions(
    small_log: ShopLog, item_text: np.ndarray, tmp_path: Path
) -> None:
    halves = [small_log.shopper_half(half) for half in (0, 1)]
    pretrain(halves[0], tmp_path / "encoder", config=TINY, text=item_text)
    encoder = load_encoder(tmp_path / "encoder")
    with pytest.warns(SharedSessionsWarning, match="other shoppers"):
        shopper = fit_shopper(halves[0], encoder, config=FIT)
    rows = {row["quantity"]: row for row in shopper.report["evidence"]}
    tried = min(SKETCH, len(halves[0]))
    assert f"learnt from {tried} of {tried}" in rows["sessions as new to the encoder as those to come"]["evidence"]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        other = fit_shopper(halves[1], encoder, config=FIT)
        fit_shopper(halves[0], MeanEncoder.from_catalogue(small_log.catalogue), config=FIT)
    assert not any("encoder" in row["quantity"] for row in other.report["evidence"])


def test_what_was_learnt_from_goes_on_with_the_encoder(
    small_log: ShopLog, item_text: np.ndarray, tmp_path: Path
) -> None:
    halves = [small_log.shopper_half(half) for half in (0, 1)]
    pretrain(halves[0], tmp_path / "one", config=TINY, text=item_text)
    warm = pretrain(halves[1], tmp_path / "two", config=TINY, text=item_text, warm_start=tmp_path / "one")
    assert sketch_of(warm) == SessionSketch.of(halves[0]).joined(SessionSketch.of(halves[1]))
    grown = grow(tmp_path / "one", small_log.catalogue, tmp_path / "grown", text=item_text)
    assert sketch_of(grown) == SessionSketch.of(halves[0])
    grown.config.learnt_from = []
    assert sketch_of(grown) is None
