"""The card of a session encoder: what it is, what it learnt from, how well, and how to use it, for people and for hubs.

It holds counts and dates, and nothing of any single shopper or session.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

_TAGS = ("slatewise", "recommendation", "session-based-recommendation", "sequential-recommendation")
_TOLD = {
    "sessions": "sessions learnt from",
    "tokens": "tokens in them",
    "validation_sessions": "later sessions, for early stopping and calibration",
    "items": "items known",
    "items_seen": "items with an embedding of their own",
    "first_session": "first session",
    "last_session": "last session",
    "source": "kind of log",
    "epochs": "passes over the sessions",
    "best_epoch": "the best of them, which is kept",
    "refresh_steps": "steps after it that learnt from the later sessions too",
    "parameters": "weights",
    "seconds": "seconds of training",
}
"""Fact -> what the card calls it."""


def model_card(
    name: str,
    *,
    settings: Mapping[str, Any],
    facts: Mapping[str, Any],
    inputs: Mapping[str, str],
    versions: Mapping[str, str],
    held_out: Sequence[Mapping[str, Any]] = (),
) -> str:
    """The card, in Markdown with a YAML header as model hubs read it.

    Args:
        name: of the encoder's folder.
        settings: of the pretraining; its record's.
        facts: figures of the pretraining; its record's.
        inputs: what it was made from; its record's.
        versions: of the packages.
        held_out: rows of `next_item_report` on sessions that had no part in the training, where there are any.
    """
    parts = (
        _header(name, facts, held_out),
        f"# {name}: a session encoder",
        _WHAT,
        _learnt_from(facts, inputs),
        _figures(settings, facts, held_out),
        _use(name, int(facts.get("items", 1))),
        _limits(facts),
        _table("Settings", settings),
        _table("Versions", versions),
    )
    return "\n\n".join(part.strip() for part in parts if part) + "\n"


def write_card(folder: Path, name: str, **record: Any) -> None:
    """Write `model_card(name, **record)` as the README.md of a folder."""
    (Path(folder) / "README.md").write_text(model_card(name, **record), encoding="utf-8")


_WHAT = """
A causal Transformer that reads what a shopper has done in a session, token by token (which item; how far: view, click,
cart, purchase; how long after the token before), and gives a state. The state lies in the space of the item vectors:
the nearer an item's vector, the likelier it comes next; its scores tell how likely. Pretrained with Slatewise to
foretell the next item, the next event, the session's end and a purchase later in the session.
"""


def _header(name: str, facts: Mapping[str, Any], held_out: Sequence[Mapping[str, Any]]) -> str:
    language = facts.get("text_model", {}).get("language")
    found = {row["metric"]: row["value"] for row in held_out if row["model"] == "encoder"}
    data = "sessions held out" if found else "validation sessions, used for early stopping"
    found = found or {metric: row[0] for metric, row in _validated(facts)}
    header: dict[str, Any] = {
        "library_name": "transformers",
        "tags": list(_TAGS),
        **({"language": language} if language else {}),
        "model-index": [
            {
                "name": name,
                "results": [
                    {
                        "task": {"type": "next-item-prediction", "name": "Next item of a session, all items ranked"},
                        "dataset": {"type": "sessions", "name": data},
                        "metrics": [{"type": metric, "value": round(value, 4)} for metric, value in found.items()],
                    }
                ],
            }
        ],
    }
    if not found:
        del header["model-index"]
    return "---\n" + yaml.safe_dump(header, sort_keys=False, allow_unicode=True) + "---"


def _learnt_from(facts: Mapping[str, Any], inputs: Mapping[str, str]) -> str:
    rows = {words: facts[fact] for fact, words in _TOLD.items() if facts.get(fact) is not None}
    rows |= {f"id of its {what}": one for what, one in inputs.items()}
    grown = "items_kept" in facts
    words = (
        f"\n\nIts catalogue was changed afterwards, without training: {facts['items_kept']:,} items were kept, "
        f"{facts['items_new']:,} are new, {facts['items_gone']:,} went."
        if grown
        else ""
    )
    return _table("What it learnt from", rows) + words


def _figures(settings: Mapping[str, Any], facts: Mapping[str, Any], held_out: Sequence[Mapping[str, Any]]) -> str:
    lines = []
    if held_out:
        lines += [
            "On later sessions that had no part in the training, beside plain rivals (95 % interval over sessions):",
            "",
            "| model | metric | value | predictions | sessions |",
            "|---|---|---|---|---|",
            *(
                f"| {row['model']} | {row['metric']} | {row['value']:.3f} [{row['low']:.3f}, {row['high']:.3f}] "
                f"| {row['predictions']:,} | {row['sessions']:,} |"
                for row in held_out
            ),
            "",
        ]
    told = ", ".join(
        f"{metric} {value:.3f} [{low:.3f}, {high:.3f}]" for metric, (value, low, high) in _validated(facts)
    )
    if told:
        number = f"{facts['validation']['sessions']:,}"
        before = ", before it learnt from them too" if facts.get("refresh_steps") else ""
        chose = "chose when to stop" + (" and how to score" if settings.get("calibrate") else "")
        which = f"the latest {number} sessions that it was given, which {chose} and flatter it{before}"
        lines.append(f"On {which}: {told}.")
    return "## How well it foretells the next item\n\n" + "\n".join(lines) if lines else ""


def _validated(facts: Mapping[str, Any]) -> list[tuple[str, Sequence[float]]]:
    """Metric, and its value with the ends of its interval, on the sessions that chose when to stop."""
    return [(name, row) for name, row in facts.get("validation", {}).items() if isinstance(row, list | tuple)]


def _use(name: str, items: int) -> str:
    seen = ", ".join(str(min(item, items)) for item in (1, 2, 1))
    return f'''## How to use it

With Slatewise installed, in the folder that holds this one:

```python
import torch
from transformers import AutoModel

from slatewise.datasets.catalogue import Catalogue
from slatewise.datasets.schema import Event
from slatewise.encoders import load_encoder

encoder = load_encoder("{name}")  # checks that it was trained to the end
items = torch.tensor([[{seen}]])  # row i of catalogue.parquet is item i + 1
events = torch.tensor([[Event.VIEW, Event.VIEW, Event.CART]])
gaps = torch.tensor([[0.0, 12.0, 40.0]])  # seconds since the token before
state = encoder.encode(items, events, gaps, lengths=torch.tensor([3]))  # (1, width)
scores = encoder.scores(state, items=items, events=events)  # with the history: will the shopper come back to it?
best = scores[0].topk({min(5, items)}).indices
print(Catalogue.load("{name}/catalogue.parquet").item_ids[best.numpy()])

same = AutoModel.from_pretrained("{name}")  # works as well, once slatewise.encoders.session is imported
```

`slatewise train`, `fit` and `export` take the folder as `--encoder`; `slatewise grow` makes it know a new catalogue.'''


_LIMITS = """
- It knows sessions, not people: what somebody did on another day has no part in the state.
- What was popular in the weeks it learnt from weighs in its scores; pretrain it again when the shop has changed.
- It foretells what shoppers do under what the shop then showed them, not yet what a recommendation changes.
- An item that no session had goes by its text, category, brand and price alone.
"""


def _limits(facts: Mapping[str, Any]) -> str:
    return "## What it does not do\n\n" + (_LIMITS.strip() + "\n" + _text(facts.get("text_model"))).strip()


def _text(model: Mapping[str, Any] | None) -> str:
    """Which model read the items' texts, and what is known of it."""
    if not model:
        return ""
    before = f", fine-tuned from {_shown(model['base'])}" if model.get("base") else ""
    licence = f"licence {model['license']}" if model.get("license") else "its licence is not known here"
    language = model.get("language")
    known = language if isinstance(language, str) else ", ".join(language or ["the languages it was trained on"])
    name = _shown(model["name"])
    return f"- Item texts were read by {name}{before} ({licence}), which knows {known}; others tell it little."


def _shown(name: str) -> str:
    """A hub id as it is; of a folder its last name alone, for the way there is nobody else's business."""
    return Path(name).name if Path(name).is_absolute() or name.count("/") > 1 else name


def _table(title: str, rows: Mapping[str, Any]) -> str:
    cells = [f"| {name} | {_cell(value)} |" for name, value in rows.items()]
    return "\n".join([f"## {title}", "", "| | |", "|---|---|", *cells])


def _cell(value: Any) -> str:
    if isinstance(value, list | tuple):
        return ", ".join(map(str, value))
    return f"{value:,}" if isinstance(value, int) and not isinstance(value, bool) and value >= 10_000 else str(value)
