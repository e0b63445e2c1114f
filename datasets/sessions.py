"""Sessions: which events of a shopper belong to one visit, and which visits are no shopper's."""

import polars as pl

from .schema import Event

_SHOWN = pl.col("event") == Event.IMPRESSION.label
_BOUGHT = pl.col("event") == Event.PURCHASE.label


def sessionise(events: pl.DataFrame, *, gap: float, split_given: bool = False) -> pl.DataFrame:
    """Give every event a session.

    Events that name a session keep it; the others of a shopper are cut wherever `gap` seconds pass without one, and
    called `shopper:0`, `shopper:1` and so on.

    Args:
        events: ordered by shopper and time; columns `shopper_id`, `session_id` (null where unnamed), `time`.
        gap: seconds.
        split_given: whether a gap also splits named sessions, into `session`, `session:1` and so on.
    """
    lane = ["shopper_id", "session_id"]
    late = (pl.col("time").diff() > pl.duration(microseconds=round(gap * 1e6))).fill_null(False)
    part = late.cum_sum().over(lane)  # both the difference and the sum run within one lane
    given = pl.col("session_id")
    numbered = pl.concat_str("shopper_id", pl.lit(":"), part)
    kept = pl.when(part > 0).then(pl.concat_str(given, pl.lit(":"), part)).otherwise(given) if split_given else given
    return events.with_columns(pl.when(given.is_null()).then(numbered).otherwise(kept).alias("session_id"))


def session_actions(events: pl.DataFrame) -> pl.DataFrame:
    """Per session: `actions`, `minutes` (at least 1) and `items`; a slate is one action, an order's lines are one."""
    unnamed = _SHOWN & pl.col("slate_id").is_null()
    return events.group_by("shopper_id", "session_id").agg(
        actions=(~_SHOWN & ~_BOUGHT).sum()
        + pl.col("time").filter(_BOUGHT).n_unique()
        + pl.col("slate_id").filter(_SHOWN & pl.col("slate_id").is_not_null()).n_unique()
        + pl.col("time").filter(unnamed).n_unique(),
        minutes=((pl.col("time").max() - pl.col("time").min()).dt.total_microseconds() / 60e6).clip(1),
        items=pl.col("item_id").n_unique(),
    )


def split_off(events: pl.DataFrame, sessions: pl.DataFrame) -> tuple[pl.DataFrame, int]:
    """Events outside some sessions (columns `shopper_id`, `session_id`), and how many were inside."""
    if not len(sessions):
        return events, 0
    kept = events.join(sessions, on=["shopper_id", "session_id"], how="anti", maintain_order="left")
    return kept, len(events) - len(kept)
