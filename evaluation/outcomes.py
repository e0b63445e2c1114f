"""Outcomes: what policies earned from shoppers, as tables that are written, read and put together."""

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from ..errors import ArtefactError, EvidenceError

FIXED = -1
"""Training seed of a policy that nothing was drawn at random for (a rule, a table of counts)."""

KEYS = ["simulator", "policy", "training_seed", "shopper"]
_PLACE_KEYS, _ITEM_KEYS = [*KEYS[:3], "place"], [*KEYS[:3], "item"]
COUNTS = ["slates", "clicks", "carts", "purchases", "revenue", "reward", "slots", "examined"]
SPREADS = ["distinct_items", "distinct_categories", "spread"]
_TABLES = {"outcomes": KEYS, "places": _PLACE_KEYS, "items": _ITEM_KEYS}


@dataclass(frozen=True)
class Outcomes:
    """What became of every session judged.

    Attributes:
        frame: one row a (simulator, policy, training_seed, shopper), with
            `slates` shown, `clicks`, `carts`, `purchases`, `revenue` (shop's currency), `reward` (the env's),
            `slots` filled, `examined` (slots looked at), `distinct_items` and `distinct_categories` shown in the
            session (the latter nan where categories were not given), and `spread`: the sum over slates of the mean
            cosine distance, in [0, 2], between two items of the slate.
            A policy without training seeds has `training_seed` `FIXED`. In an ensemble, `member` is the one that the
            shopper is of; elsewhere 0, or left out.
        places: one row a (simulator, policy, training_seed, place): slots `shown`, `examined` and `clicked`.
        items: one row a (simulator, policy, training_seed, item) that was shown: times `shown`, `clicked`, `purchased`.
        facts: how it was judged, by simulator: `k`, `reward`, `max_slates`, `seed`, `shoppers`, `available`, ...
    """

    frame: pd.DataFrame
    places: pd.DataFrame = field(
        default_factory=lambda: pd.DataFrame(columns=[*_PLACE_KEYS, "shown", "examined", "clicked"])
    )
    items: pd.DataFrame = field(
        default_factory=lambda: pd.DataFrame(columns=[*_ITEM_KEYS, "shown", "clicked", "purchased"])
    )
    facts: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        missing = [name for name in KEYS if name not in self.frame]
        if missing:
            raise EvidenceError(f"outcomes lack column {missing[0]!r}; they have {list(self.frame.columns)}")

    @property
    def simulators(self) -> list[str]:
        """Names of the simulators, in order of appearance."""
        return list(dict.fromkeys(self.frame["simulator"]))

    @property
    def policies(self) -> list[str]:
        """Names of the policies, in order of appearance."""
        return list(dict.fromkeys(self.frame["policy"]))

    def within(self, simulator: str | None = None) -> pd.DataFrame:
        """The frame of one simulator; the name may be left out where there is only one.

        Raises:
            EvidenceError: there is no such simulator, or several and none is named.
        """
        if simulator is None and len(self.simulators) == 1:
            return self.frame
        if simulator not in self.simulators:
            raise EvidenceError(f"no outcomes in simulator {simulator!r}; judged in {self.simulators}")
        return self.frame[self.frame["simulator"] == simulator]

    @classmethod
    def joined(cls, parts: Iterable["Outcomes"]) -> "Outcomes":
        """Outcomes put together, for instance of several simulators.

        Raises:
            EvidenceError: there is none, or two parts hold the same session.
        """
        held = list(parts)
        if not held:
            raise EvidenceError("no outcomes to put together; judge at least one policy")
        frame, places, items = (
            pd.concat([getattr(part, name) for part in held], ignore_index=True)
            for name in ("frame", "places", "items")
        )
        twice = frame.duplicated(KEYS)
        if twice.any():
            raise EvidenceError(f"two parts hold the same session, first {frame.loc[twice, KEYS].iloc[0].to_dict()}")
        return cls(frame, places, items, {name: facts for part in held for name, facts in part.facts.items()})

    def save(self, folder: Path) -> None:
        """Write `outcomes.parquet` (the facts in its metadata), `places.parquet` and `items.parquet`."""
        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        for name, frame in (("items", self.items), ("places", self.places), ("outcomes", self.frame)):
            table = pa.Table.from_pandas(frame, preserve_index=False)
            if name == "outcomes":
                facts = json.dumps(self.facts, default=str).encode()
                table = table.replace_schema_metadata({**(table.schema.metadata or {}), b"slatewise": facts})
            fresh = folder / f"{name}.parquet.new"
            pq.write_table(table, fresh, compression="zstd")
            fresh.replace(folder / f"{name}.parquet")

    @classmethod
    def load(cls, folder: Path) -> "Outcomes":
        """Read what `save` wrote.

        Raises:
            ArtefactError: a file is missing or unreadable.
        """
        tables = []
        for name in _TABLES:
            path = Path(folder) / f"{name}.parquet"
            try:
                tables.append(pq.read_table(path))
            except (pa.ArrowInvalid, OSError) as error:
                raise ArtefactError(f"{path} is not a readable table of outcomes: {error}; judge again") from error
        facts = json.loads((tables[0].schema.metadata or {}).get(b"slatewise", b"{}"))
        frame, places, items = (table.to_pandas() for table in tables)
        return cls(frame, places, items, facts)
