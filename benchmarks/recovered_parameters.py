"""Whether fitted shoppers have the parameters of the shops whose logs they were fitted on.

    python benchmarks/recovered_parameters.py              # sixteen logs of 4,000 sessions; some fifteen minutes
    python benchmarks/recovered_parameters.py --quick      # two smaller ones, under two minutes

Known shops of 200 items, slates of eight, each with other items and shoppers; half of them `alike` (items differ in
price alone, shoppers in how thrifty they are, and tire of nothing), half with all mechanisms of the demo's shop.
Looked for are:

  look on 1, 2, 4    chance to look at the place after the first, second, fourth; the truth's is 1 - position_decay
  price              logits that items gain, all told, where they are a standard deviation dearer within their category
  patience           slates that a newcomer who finds nothing looks at, on average, before leaving

Each has a 90 % interval of the ensemble: the estimate and 1.645 standard deviations of its members to either side. In
the demo's shop better items cost more, and the slope of price holds what they gain by that, in the truth as in the fit.
There shoppers also like things that the log does not tell, which makes their choices noisier and all logits look
smaller. The last line is one JSON object.
"""

import argparse
import json
import time
from datetime import UTC, datetime

import numpy as np
import pandas as pd
import torch
from machine import describe
from scipy.stats import beta

from slatewise.datasets import KnownShop, KnownShopConfig
from slatewise.encoders import MeanEncoder
from slatewise.simulators import FitConfig, FittedShopper, KnownTruthShopper, collect_log, fit_shopper
from slatewise.simulators.leaving import leaving_features
from slatewise.simulators.price_slope import price_slope

PLACES = (1, 2, 4)
K, MEMBERS, LONGEST = 8, 20, 60
ALIKE = {
    "quality": 0.0,
    "allure": 0.0,
    "category_taste": 0.0,
    "intent": 0.0,
    "style_taste": 0.0,
    "satiation": 0.0,
    "familiarity": 0.0,
    "letdown": 0.0,
}


def shops(quick: bool) -> dict[str, list[KnownShopConfig]]:
    """Settings of the shops, by kind."""
    seeds = range(201, 202 if quick else 209)
    plain = [KnownShopConfig.small(seed) for seed in seeds]
    alike = [KnownShopConfig(**{**vars(one), **ALIKE, "outside_option": 60.0}) for one in plain]
    return {"alike": alike, "demo": plain}


def true_values(shop: KnownShop) -> dict[str, float]:
    """The parameters of a shop."""
    config = shop.config
    liked = config.quality * shop.quality + config.allure * shop.allure - config.price_sensitivity * shop.log_price
    slope = np.polyfit(shop.log_price[1:].astype(float), liked[1:].astype(float), 1)[0]
    stays = (1 - config.leave) ** np.arange(config.patience)
    looks = {f"look on {place}": 1 - config.position_decay for place in PLACES}
    return {**looks, "price": float(slope), "patience": float(stays.sum())}


def fitted_values(shopper: FittedShopper) -> dict[str, float]:
    """The parameters of a fitted shopper."""
    model = shopper.model
    going = torch.sigmoid(model.own.choice.logits())
    looks = {f"look on {place}": float(going[min(place, len(going)) - 1]) for place in PLACES}
    return {**looks, "price": price_slope(model.own.choice, model.facts, model.scaling), "patience": patience(shopper)}


def patience(shopper: FittedShopper) -> float:
    """Slates that a newcomer who clicks nothing looks at, on average."""
    number = torch.arange(1, LONGEST + 1)
    nothing = torch.zeros_like(number)
    features = leaving_features(number, number, nothing, nothing, torch.zeros(LONGEST))
    stays = 1 - shopper.model.own.leaving.chance(features, nothing)
    return 1 + float(stays.cumprod(0)[:-1].sum())


def measure(kind: str, config: KnownShopConfig, sessions: int) -> pd.DataFrame:
    """A row a parameter."""
    shop = KnownShop.make(config)
    log = collect_log(KnownTruthShopper(shop), shop.catalogue, sessions=sessions, k=K, seed=config.seed, again=0.5)
    settings = FitConfig(held_out=0, members=MEMBERS, seed=config.seed)
    fitted = fit_shopper(log, MeanEncoder.from_catalogue(shop.catalogue), config=settings)
    members = pd.DataFrame([fitted_values(fitted.member(number)) for number in range(MEMBERS)])
    table = pd.DataFrame({"truth": true_values(shop), "fitted": fitted_values(fitted), "error": members.std()})
    table["low"], table["high"] = (table["fitted"] + side * 1.645 * table["error"] for side in (-1, 1))
    table["covered"] = (table["low"] <= table["truth"]) & (table["truth"] <= table["high"])
    print(f"[{time.process_time():5.0f} s] {kind}, shop {config.seed}: {len(log.slates)} slates", flush=True)
    return table.rename_axis("parameter").reset_index().assign(kind=kind, shop=config.seed)


def summary(table: pd.DataFrame) -> pd.DataFrame:
    """A row a kind and parameter: means over shops, and how many intervals hold the truth."""
    rows = []
    for (kind, parameter), part in table.groupby(["kind", "parameter"], sort=False):
        held, shops_ = int(part["covered"].sum()), len(part)
        low, high = beta.ppf([0.025, 0.975], [held, held + 1], [shops_ - held + 1, shops_ - held])
        rows.append(
            {
                "kind": kind,
                "parameter": parameter,
                "truth": part["truth"].mean(),
                "fitted": part["fitted"].mean(),
                "error": part["error"].mean(),
                "held": held,
                "shops": shops_,
                "share_low": float(np.nan_to_num(low, nan=0.0)),
                "share_high": float(np.nan_to_num(high, nan=1.0)),
            }
        )
    return pd.DataFrame(rows)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true")
    args = parser.parse_args()
    torch.set_num_threads(1)
    sessions = 1_500 if args.quick else 4_000
    parts = [measure(kind, config, sessions) for kind, all_ in shops(args.quick).items() for config in all_]
    table = pd.concat(parts, ignore_index=True)
    found = summary(table)
    print("\nkind   parameter    truth   fitted  error   90 % intervals that hold the truth [95 % interval]")
    for row in found.itertuples():
        share = f"{row.held} of {row.shops} [{row.share_low:.2f}, {row.share_high:.2f}]"
        print(f"{row.kind:<7}{row.parameter:<12}{row.truth:>7.3f} {row.fitted:>7.3f} {row.error:>6.3f}   {share}")
    print(
        json.dumps(
            {
                "benchmark": "recovered_parameters",
                "date": datetime.now(UTC).date().isoformat(),
                "quick": args.quick,
                "sessions": sessions,
                "members": MEMBERS,
                "seeds": sorted(table["shop"].unique().tolist()),
                "machine": describe(),
                "cpu_seconds": round(time.process_time(), 1),
                "held": {kind: float(part["covered"].mean()) for kind, part in table.groupby("kind")},
                "parameters": found.to_dict("records"),
                "rows": table.to_dict("records"),
            }
        )
    )


if __name__ == "__main__":
    main()
