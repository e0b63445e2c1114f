import numpy as np
import pytest

from slatewise.datasets.catalogue import Catalogue
from slatewise.datasets.log import ShopLog
from slatewise.errors import LogFormatError, UnknownItemError
from slatewise.serving.history import ShopperEvent, build_history
from slatewise.serving.items import Items


def raw(log: ShopLog, session: int) -> list[ShopperEvent]:
    rows = log.events[log.session_of_event == session]
    times = rows["time"].to_numpy(dtype="datetime64[us]").astype(np.int64) / 1e6
    places = [None if place < 0 else int(place) for place in rows["position"].fillna(-1)]
    slates = [slate if isinstance(slate, str) else None for slate in rows["slate_id"]]
    return [ShopperEvent(*one) for one in zip(rows["item_id"], rows["event"], times, slates, places, strict=True)]


def test_histories_of_raw_events_are_the_tokens_of_the_log(log: ShopLog, catalogue: Catalogue) -> None:
    for session in range(len(log)):
        ours = build_history(raw(log, session), Items(catalogue), session_gap=np.inf).history
        theirs = log.tokens.histories(np.array([session]))
        for name in ("items", "events", "gaps", "lengths"):
            np.testing.assert_array_equal(getattr(ours, name), getattr(theirs, name), err_msg=f"{name} of {session}")


def test_only_the_latest_tokens_are_kept(log: ShopLog, catalogue: Catalogue) -> None:
    session = int(log.tokens.lengths.argmax())
    ours = build_history(raw(log, session), Items(catalogue), last=3, session_gap=np.inf).history
    np.testing.assert_array_equal(ours.items, log.tokens.histories(np.array([session]), last=3).items)
    assert ours.lengths.tolist() == [3]


def test_events_before_a_long_pause_belong_to_an_earlier_visit(catalogue: Catalogue) -> None:
    events = [
        ShopperEvent("item-1", "view", 0.0),
        ShopperEvent("item-2", "view", 1_801.0),
        ShopperEvent("item-4", "view", 3_601.0),
    ]
    history = build_history(events, Items(catalogue)).history
    assert history.items.tolist() == [[2, 4]]
    assert history.gaps.tolist() == [[0.0, 1_800.0]]


def test_unknown_items_are_passed_over_and_named_or_refused(catalogue: Catalogue) -> None:
    events = [
        ShopperEvent("nowhere", "view", 0.0),
        ShopperEvent("item-2", "view", 1.0),
        ShopperEvent("nowhere", "cart", 2.0),
    ]
    built = build_history(events, Items(catalogue))
    assert built.unknown == ("nowhere",)
    assert built.history.items.tolist() == [[2]]
    with pytest.raises(UnknownItemError, match="nowhere"):
        build_history(events, Items(catalogue), strict=True)


def test_nothing_done_is_an_empty_history(catalogue: Catalogue) -> None:
    assert build_history([], Items(catalogue)).history.lengths.tolist() == [0]
    only_unknown = build_history([ShopperEvent("nowhere", "view", 0.0)], Items(catalogue))
    assert only_unknown.history.lengths.tolist() == [0]


def test_an_event_without_a_meaning_is_refused(catalogue: Catalogue) -> None:
    with pytest.raises(LogFormatError, match="wish"):
        build_history([ShopperEvent("item-1", "wish", 0.0)], Items(catalogue))
