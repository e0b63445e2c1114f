"""The model card of a bundle, in the style of Hugging Face."""

import json
from collections.abc import Mapping
from typing import Any

from ..datasets.catalogue import Catalogue

_CARD = """---
library_name: slatewise
pipeline_tag: reinforcement-learning
tags:
- recommender-system
- slate-recommendation
- reinforcement-learning
- onnx
---

# Slate policy for {n_items} items

Fills slates of {k} places for the shopper of a shop, from what the shopper did in this visit. One ONNX graph
(`policy.onnx`) reads the visit and scores every item; the best {k} are the slate.

| | |
|---|---|
| items | {n_items}, of which {available} may be shown |
| reads | the latest {history_limit} steps of a visit: item, event, seconds since the step before |
| trained with | {trainer} |
| scores agree with training to | {difference:.1e} |
| rules every slate keeps | {rules} |
| slates equal to the trained policy's | {equal} of {histories} visits{held_out}; {tied} more are ties |

## How to use

```bash
slatewise serve . --store events.db
```

```python
from slatewise.serving import Bundle, Runtime, ShopperEvent

runtime = Runtime(Bundle.load("."))
for place in runtime.recommend([ShopperEvent({item!r}, "view", time=0.0)]):
    print(place.item_id, place.reason)
```

Neither needs torch.

## Training

{training}

## Evaluation

{evaluation}

## Limits

- It knows this catalogue alone. Events on other items are passed over, and counted in every answer.
- Figures from simulated shoppers say how policies compare where those shoppers are right; prove them on real ones.
- Slates under filters and rules are the best of what they leave by the same scores; it was trained without them.
- Shown best slates have propensity 1: to learn from them later, serve some with `explore` above 0.
"""


def model_card(record: Mapping[str, Any], catalogue: Catalogue) -> str:
    """The card as Markdown.

    Args:
        record: what goes into `bundle.json`: `policy`, `training`, `evaluation`, `parity`, `export`, and any `rules`.
        catalogue: the bundle's.
    """
    parity, policy, training = record["parity"], record["policy"], record["training"]
    return _CARD.format(
        **policy,
        available=int(catalogue.available.sum()),
        rules=", ".join(f"{name}: {json.dumps(value)}" for name, value in record.get("rules", {}).items()) or "none",
        trainer=training.get("algorithm") or "see below",
        difference=record["export"]["max_abs_difference"],
        equal=parity["equal"],
        tied=parity["tied"],
        histories=parity["histories"],
        held_out=" of later sessions" if parity["held_out"] else "",
        item=str(catalogue.item_ids[1]),
        training=_listed(training),
        evaluation=_listed(record["evaluation"]) if record["evaluation"] else "None was given when this was exported.",
    )


def _listed(facts: Mapping[str, Any]) -> str:
    """Facts as Markdown lines; nested ones as JSON."""
    lines = [f"- {name}: {value if isinstance(value, str) else json.dumps(value)}" for name, value in facts.items()]
    return "\n".join(lines) or "Nothing was recorded."
