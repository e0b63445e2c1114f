"""Pictures of the study of long-term effects: how agents learnt, and what policies show as a visit goes on.

Shapes: T slates shown, in order of shopper and time; K slots, N items, C categories.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from slatewise.evaluation.diary import Diary
from slatewise.evaluation.drawing import INK, SERIES, STYLES, WIDTH, as_png, canvas, key
from slatewise.simulators import KnownTruthShopper

SHOWN = 15
"""Slates of an episode that are drawn; later ones are reached by few."""
TOGETHER = 5
"""Rows of a learning curve that make one point."""
MEASURES = {
    "off": "Mean allure of the items shown",
    "patience": "Mean allure of the items shown",
    "satiation": "Share of the slots so far of the category shown most",
    "complements": "Mean price of the items shown",
    "return_visits": "Mean allure of the items shown",
}


def read_curves(folder: Path) -> pd.DataFrame:
    """Learning curves of the seeds: `timesteps`, and mean, least and most of `reward` over seeds.

    A row of a file is a handful of episodes, mostly luck; a point here is the mean of `TOGETHER` rows.
    """
    parts = []
    for path in sorted(folder.glob("seed-*/curve.csv")):
        rows = pd.read_csv(path)
        rows = rows[rows["timesteps"].diff().fillna(rows["timesteps"]) >= rows["timesteps"].iloc[0] / 2]  # whole rows
        together = rows.groupby(np.arange(len(rows)) // TOGETHER)
        parts.append(pd.DataFrame({"timesteps": together["timesteps"].max(), "reward": together["reward"].mean()}))
    whole = pd.concat(parts).groupby("timesteps")["reward"]
    return pd.DataFrame({"reward": whole.mean(), "least": whole.min(), "most": whole.max()}).reset_index()


def behaviour(mechanism: str, truth: KnownTruthShopper, diary: Diary) -> list[float]:
    """What `MEASURES` says of the first, second, ... slate of an episode; means over the shoppers still there."""
    who, slate = np.concatenate(diary.who), np.concatenate(diary.slate)
    order = np.argsort(who, kind="stable")
    who, slate = who[order], slate[order]
    first = np.flatnonzero(np.append(True, who[1:] != who[:-1]))
    turn = np.arange(len(who)) - np.repeat(first, np.diff(np.append(first, len(who))))
    measured = measure(mechanism, truth, slate, turn)
    return [round(float(measured[turn == at].mean()), 4) for at in range(SHOWN) if (turn == at).sum() >= 20]


def measure(
    mechanism: str, truth: KnownTruthShopper, slate: NDArray[np.int64], turn: NDArray[np.int64]
) -> NDArray[np.float64]:
    """(T,) what `MEASURES` says of slates (T, K), each the `turn`th, from 0, of its shopper's."""
    shop = truth.shop
    if mechanism == "satiation":
        category = shop.category[slate]
        counts = np.stack([(category == one).sum(1) for one in range(shop.config.n_categories)], 1)
        before = np.insert(counts.cumsum(0), 0, 0, axis=0)
        place = np.arange(len(turn))
        return (before[place + 1] - before[place - turn]).max(1) / (turn + 1) / slate.shape[1]
    if mechanism == "complements":
        return truth.prices.numpy()[slate].mean(1).astype(np.float64)
    return shop.allure[slate].mean(1).astype(np.float64)


def curves_drawn(mechanism: str, found: Mapping[str, Any], path: Path) -> None:
    """Reward of the shoppers met while learning, explorations included; mean and range over seeds."""
    figure, (axis,) = canvas(WIDTH, 3.6)
    for number, (label, curve) in enumerate(found["curves"].items()):
        style = {"color": SERIES[number], "linestyle": STYLES[number]}
        axis.plot(curve["timesteps"], curve["reward"], label=label.replace("_", " "), linewidth=1.8, **style)
        axis.fill_between(curve["timesteps"], curve["least"], curve["most"], color=SERIES[number], alpha=0.12)
    for name, dash in (("bound", ":"), ("myopic", "-")):
        axis.axhline(found[name]["value"], color=INK, linewidth=1.2, linestyle=dash, label=name)
    axis.set_title(mechanism.replace("_", " ").capitalize(), loc="left")
    axis.set_xlabel("Slates shown in training")
    axis.set_ylabel("Reward an episode")
    key(axis, loc="center left", bbox_to_anchor=(1.0, 0.5))
    as_png(figure, path)


def behaviours_drawn(mechanism: str, found: Mapping[str, Any], path: Path) -> None:
    """What policies show on the first, second, ... slate of an episode."""
    figure, (axis,) = canvas(WIDTH, 3.4)
    for number, (label, line) in enumerate(found["behaviour"].items()):
        style = {"color": SERIES[number], "linestyle": STYLES[number]}
        axis.plot(np.arange(1, len(line) + 1), line, label=label.replace("_", " "), linewidth=1.8, **style)
    axis.set_title(mechanism.replace("_", " ").capitalize(), loc="left")
    axis.set_xlabel("Slate of the episode")
    axis.set_ylabel(MEASURES[mechanism], fontsize=8)
    key(axis, loc="center left", bbox_to_anchor=(1.0, 0.5))
    as_png(figure, path)
