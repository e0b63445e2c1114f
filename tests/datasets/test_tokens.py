"""Folding events into tokens: a small table for every rule."""

import numpy as np
import pytest

from slatewise.datasets.schema import Event
from slatewise.datasets.tokens import History, Tokens, tokenise

CODES = {"view": 2, "click": 3, "cart": 4, "buy": 5, "uncart": 6, "show": 1}


def fold(table: str) -> tuple[list[tuple[int, str, float]], list[int], Tokens]:
    """Tokens (item, event, gap) and the token of each event, of lines `session seconds event item slate position`."""
    rows = [line.split() for line in table.strip().splitlines()]
    session, item, slate, position = (np.array([int(row[place]) for row in rows]) for place in (0, 3, 4, 5))
    seconds = np.array([float(row[1]) for row in rows])
    event = np.array([CODES[row[2]] for row in rows])
    tokens, of_event = tokenise(session, item, event, seconds, slate, position)
    names = {code: name for name, code in CODES.items()}
    told = zip(tokens.items.tolist(), tokens.events.tolist(), tokens.gaps.tolist(), strict=True)
    return [(item, names[event], gap) for item, event, gap in told], of_event.tolist(), tokens


RULES = {
    "events on one item fold into the deepest reached": (
        """0 0 view 7 -1 -1
           0 5 click 7 -1 -1
           0 9 cart 7 -1 -1
           0 20 buy 7 -1 -1
           0 30 view 8 -1 -1""",
        [(7, "buy", 0), (8, "view", 30)],
        [0, 0, 0, 0, 1],
    ),
    "a shallower event does not undo a deeper one": (
        """0 0 buy 7 -1 -1
           0 5 view 7 -1 -1""",
        [(7, "buy", 0)],
        [0, 0],
    ),
    "another item in between starts anew": (
        """0 0 view 7 -1 -1
           0 5 view 8 -1 -1
           0 8 view 7 -1 -1""",
        [(7, "view", 0), (8, "view", 5), (7, "view", 3)],
        [0, 1, 2],
    ),
    "gaps count from the start of the token before": (
        """0 10 view 7 -1 -1
           0 16 cart 7 -1 -1
           0 30 view 8 -1 -1""",
        [(7, "cart", 0), (8, "view", 20)],
        [0, 0, 1],
    ),
    "sessions do not mix": (
        """0 0 view 7 -1 -1
           1 100 view 7 -1 -1
           1 104 view 8 -1 -1""",
        [(7, "view", 0), (7, "view", 0), (8, "view", 4)],
        [0, 1, 2],
    ),
    "a slate without a click is its best-placed item": (
        """0 0 show 5 0 1
           0 0 show 6 0 0
           0 0 show 7 0 2""",
        [(6, "show", 0)],
        [-1, 0, -1],
    ),
    "a slate without places is its first item": (
        """0 0 show 5 0 -1
           0 0 show 6 0 -1""",
        [(5, "show", 0)],
        [0, -1],
    ),
    "a clicked slate is the item clicked": (
        """0 0 show 5 0 0
           0 0 show 6 0 1
           0 3 click 6 0 -1
           0 4 cart 6 0 -1
           0 8 buy 6 -1 -1""",
        [(6, "buy", 0)],
        [-1, -1, 0, 0, 0],
    ),
    "two slates on which one item was clicked are two tokens": (
        """0 0 show 5 0 0
           0 1 click 5 0 -1
           0 9 show 5 1 0
           0 10 click 5 1 -1""",
        [(5, "click", 0), (5, "click", 9)],
        [-1, 0, -1, 1],
    ),
    "a click on a slate does not fold into a view before it": (
        """0 0 view 5 -1 -1
           0 4 show 5 0 0
           0 6 click 5 0 -1""",
        [(5, "view", 0), (5, "click", 6)],
        [0, -1, 1],
    ),
    "a refused slate keeps what is around it apart": (
        """0 0 view 5 -1 -1
           0 4 show 6 0 0
           0 6 view 5 -1 -1""",
        [(5, "view", 0), (6, "show", 4), (5, "view", 2)],
        [0, 1, 2],
    ),
    "two refused slates are two tokens though they begin with one item": (
        """0 0 show 6 0 0
           0 5 show 6 1 0""",
        [(6, "show", 0), (6, "show", 5)],
        [0, 1],
    ),
    "taking out of the cart is a token of its own": (
        """0 0 cart 5 -1 -1
           0 3 uncart 5 -1 -1
           0 4 cart 5 -1 -1""",
        [(5, "cart", 0), (5, "uncart", 3), (5, "cart", 1)],
        [0, 1, 2],
    ),
    "two times out of the cart do not fold": (
        """0 0 uncart 5 -1 -1
           0 3 uncart 5 -1 -1""",
        [(5, "uncart", 0), (5, "uncart", 3)],
        [0, 1],
    ),
    "unknown items are passed over": (
        """0 0 view 5 -1 -1
           0 2 view 0 -1 -1
           0 4 cart 5 -1 -1
           0 5 show 0 0 0
           0 5 show 9 0 1""",
        [(5, "cart", 0), (9, "show", 5)],
        [0, -1, 0, -1, 1],
    ),
    "impressions of no slate make no token": (
        """0 0 show 5 -1 0
           0 1 view 6 -1 -1""",
        [(6, "view", 0)],
        [-1, 0],
    ),
    "a clock that steps back gives no negative gap": (
        """0 10 view 5 -1 -1
           0 7 view 6 -1 -1""",
        [(5, "view", 0), (6, "view", 0)],
        [0, 1],
    ),
}


@pytest.mark.parametrize("rule", RULES)
def test_folding(rule: str) -> None:
    table, tokens, of_event = RULES[rule]
    given, given_of_event, _ = fold(table)
    assert given == tokens
    assert given_of_event == of_event


def test_sessions_without_tokens_have_none() -> None:
    _, _, tokens = fold(
        """0 0 view 0 -1 -1
           1 0 view 5 -1 -1
           2 0 show 6 -1 0
           3 0 view 7 -1 -1
           3 5 view 8 -1 -1"""
    )
    assert len(tokens) == 4
    assert tokens.lengths.tolist() == [0, 1, 0, 2]
    assert tokens.offsets.tolist() == [0, 0, 1, 1, 3]


def test_a_log_of_nothing_has_no_tokens() -> None:
    none = np.zeros(0, np.int64)
    tokens, of_event = tokenise(none, none, none, np.zeros(0), none, none)
    assert len(tokens) == 0
    assert of_event.shape == (0,)


def test_dtypes_are_those_promised() -> None:
    _, _, tokens = fold("0 0 view 5 -1 -1")
    assert (tokens.items.dtype, tokens.events.dtype, tokens.gaps.dtype, tokens.offsets.dtype) == (
        np.int64,
        np.int64,
        np.float32,
        np.int64,
    )


@pytest.fixture
def three_sessions() -> Tokens:
    return Tokens(
        np.array([1, 2, 3, 4, 5, 6]),
        np.full(6, int(Event.VIEW)),
        np.array([0, 1, 2, 0, 0, 5], np.float32),
        np.array([0, 3, 4, 6]),
    )


def test_histories_are_padded_at_the_end(three_sessions: Tokens) -> None:
    history = three_sessions.histories(np.array([2, 0]))
    assert history.items.tolist() == [[5, 6, 0], [1, 2, 3]]
    assert history.events.tolist() == [[2, 2, 0], [2, 2, 2]]
    assert history.gaps.tolist() == [[0, 5, 0], [0, 1, 2]]
    assert history.lengths.tolist() == [2, 3]


@pytest.mark.parametrize(
    ("upto", "last", "items"),
    [
        ([2, 1, 9], None, [[1, 2], [4, 0], [5, 6]]),
        ([0, 0, 0], None, [[0], [0], [0]]),
        (None, 1, [[3], [4], [6]]),
        ([2, 1, 1], 1, [[2], [4], [5]]),
        ([3, 1, 2], 2, [[2, 3], [4, 0], [5, 6]]),
    ],
)
def test_histories_can_be_cut_at_both_ends(
    three_sessions: Tokens, upto: list[int] | None, last: int | None, items: list[list[int]]
) -> None:
    cut = None if upto is None else np.array(upto)
    history = three_sessions.histories(np.arange(3), cut, last)
    assert history.items.tolist() == items
    assert history.lengths.tolist() == [sum(map(bool, row)) for row in items]


def test_a_part_holds_the_sessions_asked_for_in_the_order_given(three_sessions: Tokens) -> None:
    part = three_sessions.part(np.array([2, 0]))
    assert part.items.tolist() == [5, 6, 1, 2, 3]
    assert part.gaps.tolist() == [0, 5, 0, 1, 2]
    assert part.offsets.tolist() == [0, 2, 5]
    assert three_sessions.part(np.zeros(0, np.int64)).offsets.tolist() == [0]


def test_a_token_has_the_search_that_led_to_it_also_where_its_slate_alone_names_it() -> None:
    columns = np.array(
        [  # session, item, event, slate, position, query
            (0, 5, Event.VIEW, -1, -1, 0),
            (0, 5, Event.CART, -1, -1, 2),  # the first search of its token
            (0, 5, Event.PURCHASE, -1, -1, 3),
            (0, 6, Event.IMPRESSION, 7, 0, 1),
            (0, 8, Event.IMPRESSION, 7, 1, 0),
            (0, 8, Event.CLICK, 7, -1, 0),  # clicked on a slate that answers a search
            (1, 9, Event.IMPRESSION, 3, 0, 4),
            (1, 5, Event.VIEW, -1, -1, 0),
        ]
    ).T
    session, item, event, slate, position, query = columns
    tokens, _ = tokenise(session, item, event, np.arange(8.0), slate, position, query)
    assert tokens.items.tolist() == [5, 8, 9, 5]
    assert tokens.queries is not None
    assert tokens.queries.tolist() == [2, 1, 4, 0]
    part = tokens.part(np.array([1, 0])).queries
    assert part is not None
    assert part.tolist() == [4, 0, 2, 1]
    history = tokens.histories(np.array([0, 1]), upto=np.array([2, 1]))
    assert history.queries is not None
    assert history.queries.tolist() == [[2, 1], [4, 0]]
    assert tokenise(session, item, event, np.arange(8.0), slate, position)[0].queries is None


def test_histories_of_no_sessions_and_of_empty_ones() -> None:
    nothing = Tokens(np.zeros(0, np.int64), np.zeros(0, np.int64), np.zeros(0, np.float32), np.zeros(3, np.int64))
    assert nothing.histories(np.array([0, 1])).lengths.tolist() == [0, 0]
    assert len(nothing.histories(np.zeros(0, np.int64))) == 0
    empty = History.empty(2, 3)
    assert (empty.items.shape, len(empty)) == ((2, 3), 2)
