"""Reading times: what shops write in a time column, turned into UTC."""

import polars as pl

TIME_UNITS = {"s": 1_000_000.0, "ms": 1_000.0, "us": 1.0, "ns": 0.001}
"""Unit of an epoch -> microseconds in it."""

_FAST = "%Y-%m-%d %H:%M:%S UTC"
_CLOCK = (
    r"^(?P<date>\d{4}-\d{1,2}-\d{1,2})"
    r"(?:[T ]+(?P<clock>\d{1,2}:\d{2}(?::\d{2}(?:\.\d+)?)?)\s*(?P<zone>[Zz]|UTC|GMT|[+-]\d{2}(?::?\d{2})?)?)?$"
)
_EPOCH = r"^-?\d{9,19}(\.\d+)?$"
_UTC = pl.Datetime("us", "UTC")


def parse_times(values: pl.Series, *, unit: str = "auto", layout: str = "", timezone: str = "") -> pl.DataFrame:
    """Times in UTC.

    Args:
        values: dates, datetimes, epochs (numbers or digits), or text such as `2019-10-01 00:00:00 UTC`,
            `2019-10-01T02:00:00+02:00`, `2019-10-01`.
        unit: of an epoch: `s`, `ms`, `us`, `ns`, or `auto`, which goes by its size (right from 1973 to 5138).
        layout: strptime pattern of text; empty for the forms above.
        timezone: IANA name of the zone of times that carry none; empty for UTC.

    Returns:
        Columns `time` (UTC, microseconds, null where unreadable) and `naive` (whether the value carried no zone
        while none was given).
    """
    kind = values.dtype
    if kind == pl.Null:
        return _both(pl.Series(values.name, [None] * len(values), dtype=_UTC), pl.Series([False] * len(values)))
    if kind.is_numeric():
        return _zoned(_epochs(values, unit))
    if isinstance(kind, pl.Datetime) and kind.time_zone:
        return _zoned(values.dt.convert_time_zone("UTC").cast(_UTC))
    if kind.is_temporal():
        return _local(values.cast(pl.Datetime("us")), timezone)
    text = values.cast(pl.String).str.strip_chars()
    if layout:
        if "%z" in layout or "%:z" in layout:
            return _zoned(text.str.to_datetime(layout, time_unit="us", time_zone="UTC", strict=False).cast(_UTC))
        return _local(text.str.to_datetime(layout, time_unit="us", strict=False), timezone)
    fast = text.str.to_datetime(_FAST, time_unit="us", strict=False)
    if fast.null_count() == text.null_count():
        return _zoned(fast.dt.replace_time_zone("UTC"))
    return _text(text, unit, timezone)


def _both(time: pl.Series, naive: pl.Series) -> pl.DataFrame:
    return pl.DataFrame({"time": time.cast(_UTC), "naive": naive.cast(pl.Boolean)})


def _zoned(time: pl.Series) -> pl.DataFrame:
    return _both(time, pl.Series([False]).new_from_index(0, len(time)))


def _local(time: pl.Series, timezone: str) -> pl.DataFrame:
    """Times without a zone, read in a zone; an hour that occurs twice is its first, one that does not is null."""
    placed = time.dt.replace_time_zone(timezone or "UTC", ambiguous="earliest", non_existent="null")
    return _both(placed.dt.convert_time_zone("UTC"), pl.Series([not timezone]).new_from_index(0, len(time)))


def _epochs(values: pl.Series, unit: str) -> pl.Series:
    number = values.cast(pl.Float64, strict=False)
    if unit != "auto":
        scaled = pl.col("n") * TIME_UNITS[unit]
    else:
        size = pl.col("n").abs()
        scaled = (
            pl.when(size < 1e11)
            .then(pl.col("n") * TIME_UNITS["s"])
            .when(size < 1e14)
            .then(pl.col("n") * TIME_UNITS["ms"])
            .when(size < 1e17)
            .then(pl.col("n"))
            .otherwise(pl.col("n") * TIME_UNITS["ns"])
        )
    micros = pl.DataFrame({"n": number}).select(scaled.round().cast(pl.Int64, strict=False)).to_series()
    return micros.cast(pl.Datetime("us")).dt.replace_time_zone("UTC")


def _text(text: pl.Series, unit: str, timezone: str) -> pl.DataFrame:
    parts = text.str.extract_groups(_CLOCK).struct.unnest()
    stamp = pl.col("date") + " " + pl.col("clock").fill_null("00:00:00")
    local = pl.coalesce(
        stamp.str.to_datetime("%Y-%m-%d %H:%M:%S%.f", time_unit="us", strict=False),
        stamp.str.to_datetime("%Y-%m-%d %H:%M", time_unit="us", strict=False),
    )
    sign = pl.when(pl.col("zone").str.starts_with("-")).then(-1).otherwise(1)
    hours = pl.col("zone").str.extract(r"^[+-](\d{2})").cast(pl.Int64).fill_null(0)
    minutes = pl.col("zone").str.extract(r"^[+-]\d{2}:?(\d{2})$").cast(pl.Int64).fill_null(0)
    offset = pl.duration(minutes=sign * (60 * hours + minutes))
    read = parts.select(
        local.alias("local"), (local - offset).dt.replace_time_zone("UTC").alias("utc"), pl.col("zone").is_not_null()
    )
    here = _local(read["local"], timezone)
    number = text.str.contains(_EPOCH).fill_null(False)
    epochs = _epochs(text, unit)
    chosen = pl.DataFrame(
        [here["time"], here["naive"], read["utc"], read["zone"], number.alias("number"), epochs.alias("epoch")]
    )
    return chosen.select(
        pl.when("number").then("epoch").when("zone").then("utc").otherwise("time").cast(_UTC).alias("time"),
        pl.when(pl.col("number") | pl.col("zone"))
        .then(False)
        .otherwise(pl.col("naive") & pl.col("time").is_not_null())
        .alias("naive"),
    )
