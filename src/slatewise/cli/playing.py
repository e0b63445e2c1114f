"""`slatewise play`: watch a policy fill slates for simulated shoppers, or fill them, and see why they click."""

from pathlib import Path
from typing import Annotated, Any

import typer

from .console import Reporter, reported
from .options import Json, Player, Reward, Seed
from .steps import REWARD


def play(
    log: Annotated[
        Path | None,
        typer.Argument(metavar="LOG", help="Folder that `ingest` (or `demo`) wrote, for its catalogue and --shopper."),
    ] = None,
    shopper: Annotated[
        Path | None,
        typer.Option(help="Folder that `fit` (or `demo`) wrote; the small known-truth shop's shoppers if left out."),
    ] = None,
    encoder: Annotated[
        Path | None, typer.Option(help="Folder that `pretrain` wrote; a mean of item vectors if left out.")
    ] = None,
    agent: Annotated[Path | None, typer.Option(help="Folder that `train` wrote: the agent to watch.")] = None,
    policy: Annotated[
        Player | None, typer.Option(help="A policy to watch instead of an agent; `next-item` if nothing is named.")
    ] = None,
    choose: Annotated[bool, typer.Option("--choose", help="Fill the slates yourself.")] = False,
    slates: Annotated[
        int | None, typer.Option(min=1, help="Slates after which the game ends; then a watched game does not wait.")
    ] = None,
    k: Annotated[int | None, typer.Option("--slate-size", "-k", min=1, help="Slots of a slate; 5 if left out.")] = None,
    reward: Reward = REWARD,
    seed: Seed = 0,
    as_json: Json = False,
) -> None:
    """Watch a policy fill slates for simulated shoppers, or fill them yourself, and see why each was clicked.

    Works at once: without folders, in the small known-truth shop, whose shoppers hide nothing. Leave with q or Ctrl-C.

    **Reads** a log, an encoder, a shopper and an agent, where given. `--choose` reads numbers, a line a slate: of the
    items to choose from, best place first. A line may come from a file or a pipe; without a terminal nothing is asked,
    and a watched game ends after 10 slates.

    **Writes** nothing. Each slate is told as a table: what the item is *liked* by this shopper, in logits, and for
    what; the chance of a *click* that follows from it, from how far shoppers look and from the worth of clicking
    nothing; and what the shopper *did*, which is a draw from these chances. The known-truth and fitted shoppers tell of
    what a liking is the sum, boosted ones only how large it is. The best slate known is, in the known-truth shop, the
    oracle's; elsewhere that of a fitted shopper's own choice model.

    **Assumes** nothing of the real shop that the shoppers' fit did not: this shows what an agent is taught by.
    """
    reporter = Reporter(as_json)
    with reported(reporter):
        from .play_game import Game
        from .play_shop import opened

        shop = opened(log, encoder, shopper, agent, policy, k, reward, seed)
        game = Game(reporter, shop, choose=choose, slates=slates, seed=seed)
        result = game.play()
        _tell(reporter, result)
        reporter.result(result)


def _tell(reporter: Reporter, result: dict[str, Any]) -> None:
    """What the game came to, in a line or two."""
    totals = result["totals"]
    reporter.tell(
        f"\n{result['player']}: shoppers {result['shoppers']}, slates {totals['slates']}, clicks {totals['clicks']}, "
        f"carts {totals['carts']}, purchases {totals['purchases']}, revenue {totals['revenue']:,.2f}, "
        f"reward {totals['reward']:g}"
    )
    if totals["expected_clicks"] is not None and totals["best_expected_clicks"] is not None:
        reporter.tell(
            f"by chances, {totals['expected_clicks']:.2f} clicks were to be expected; with the best slates known, for "
            f"the same shoppers at the same moments, {totals['best_expected_clicks']:.2f}"
        )
