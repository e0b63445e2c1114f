"""The game: shoppers come, are shown slates, by a policy or by a person, and what they do is told with its reasons."""

import os
import select
import sys
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch

from ..simulators import reasons, without_repeats
from .console import Reporter
from .play_shop import PlayShop, Slate
from .play_words import Shown, arrival_lines, shelf_table, slate_table, story

SLATES = 10
"""Slates of a game that nobody watches, where none are asked for."""
SHELF = 4
"""Times as many items to choose from as a slate has slots."""
_HOW = "[dim]{k} numbers, best place first; Enter: the slate of {player}; ?: chances; q: leave[/]"
_NEXT = "[dim]Enter: the next slate; q: leave[/]"


class Game:
    """Slates shown to shoppers who come one after the other.

    Args:
        reporter: where it is told: slates and stories on stdout, questions on stderr.
        shop: to play in.
        choose: whether a person chooses the slates; otherwise `shop.fill` does.
        slates: after which the game ends; by default until the person leaves or, where none is there to ask, `SLATES`.
        seed: of the shoppers, and of what a person may choose from.
        ask: reads a line; raises EOFError at the end.
        attended: whether a person sits at a terminal, and is to be asked.
    """

    def __init__(
        self,
        reporter: Reporter,
        shop: PlayShop,
        *,
        choose: bool,
        slates: int | None,
        seed: int,
        ask: Callable[[], str] | None = None,
        attended: bool | None = None,
    ) -> None:
        self.reporter, self.shop, self.choose, self.seed = reporter, shop, choose, seed
        self.attended = sys.stdin.isatty() if attended is None else attended
        self.most = slates if slates is not None or choose or self.attended else SLATES
        self.waits = self.attended and slates is None and not choose
        self.shown: list[Shown] = []
        self.shoppers = 0
        self._ask = ask or _line
        self._rng = np.random.default_rng(seed)

    def play(self) -> dict[str, Any]:
        """Play until the end; what was shown and what it earned, as plain values."""
        try:
            while self.most is None or len(self.shown) < self.most:
                self._visit()
        except (EOFError, KeyboardInterrupt):
            self.reporter.err.print()
        return self._totals()

    def _visit(self) -> None:
        """One shopper, from coming to leaving."""
        env = self.shop.env
        observation, _ = env.reset(seed=None if self.shoppers else self.seed)
        self.shoppers += 1
        self._tell("", *arrival_lines(self.shop, self.shoppers))
        ended = False
        while not ended and (self.most is None or len(self.shown) < self.most):
            slate = self._chosen(observation) if self.choose else self.shop.fill(observation)
            told, best = self._foretold(slate, observation)
            observation, reward, terminated, truncated, info = env.step(slate)
            ended = terminated or truncated
            turn = env.batch.last
            assert turn is not None
            patience = getattr(env.batch.here.state, "patience", None)
            shown = Shown(
                number=info["slates"],
                items=turn.slate[0].tolist(),
                told=told,
                best=best,
                info=info,
                reward=reward,
                examined=turn.response.examined[0].tolist(),
                end="left" if terminated else "time is up" if truncated else "",
                patience_out=None if patience is None else bool(patience[0] <= 0),
            )
            self.shown.append(shown)
            self._tell(slate_table(self.shop, shown), *story(self.shop, shown))
            if self.waits:
                self._pause()

    def _foretold(self, slate: Slate, observation: Any) -> tuple[Any, float | None]:
        """What the shopper would make of a slate, and the chance of a click of the best one known."""
        told = self._reasons(slate)
        if told is None or self.shop.best is None:
            return told, None
        best = self._reasons(self.shop.best(observation))
        return told, None if best is None else float(best.click[0].sum())

    def _reasons(self, slate: Sequence[int] | Slate) -> Any:
        batch = self.shop.env.batch
        items = np.asarray(slate, dtype=np.int64)
        if batch.available is not None:
            items = items * batch.available[items]
        shown = without_repeats(torch.from_numpy(items)[None].to(batch.shopper.device))
        return reasons(batch.shopper, batch.here.state, shown)

    def _tell(self, *what: Any) -> None:
        if not self.reporter.as_json:
            for one in what:
                self.reporter.out.print(one)

    def _pause(self) -> None:
        self.reporter.err.print(_NEXT, end=" ")
        if self._ask().strip().lower() in ("q", "quit", "exit"):
            raise EOFError  # as at the end of a pipe

    def _shelf(self, observation: Any) -> list[int]:
        """Items to choose from: the policy's own, and others, in no telling order."""
        batch, k = self.shop.env.batch, self.shop.k
        may = np.arange(1, batch.shopper.n_items + 1)
        if batch.available is not None:
            may = np.flatnonzero(batch.available)
        own = [int(item) for item in self.shop.fill(observation) if item]
        others = self._rng.permutation(np.setdiff1d(may, own))[: SHELF * k - len(own)].tolist()
        return self._rng.permutation([*own, *others]).tolist()

    def _chosen(self, observation: Any) -> Slate:
        """The slate that a person chooses."""
        shelf, err = self._shelf(observation), self.reporter.err
        err.print(shelf_table(self.shop.catalogue, shelf))
        while True:
            if self.attended:
                err.print(_HOW.format(k=self.shop.k, player=self.shop.player))
                err.print("> ", end="")
            said = self._ask().strip().lower()
            if said in ("q", "quit", "exit"):
                raise EOFError  # as at the end of a pipe
            if said == "?":
                err.print(shelf_table(self.shop.catalogue, shelf, self._alone(shelf)))
            elif not said:
                return self.shop.fill(observation)
            elif (slate := self._read(said, shelf)) is not None:
                return slate

    def _alone(self, shelf: list[int]) -> list[float] | None:
        """Chance that each item is clicked where nothing else is shown; None where the shopper cannot tell."""
        empty = [0] * (self.shop.k - 1)
        told = [self._reasons([item, *empty]) for item in shelf]
        return None if None in told else [float(one.click[0, 0]) for one in told]

    def _read(self, said: str, shelf: list[int]) -> Slate | None:
        """Numbers as a slate; None, and a word why, where they are none. Fewer than k leave slots empty."""
        words = said.replace(",", " ").split()
        if not all(word.isdecimal() and 1 <= int(word) <= len(shelf) for word in words):
            self.reporter.err.print(f"numbers from 1 to {len(shelf)} are asked for, got {said!r}", markup=False)
            return None
        if len(words) > self.shop.k:
            self.reporter.err.print(f"a slate has {self.shop.k} slots, got {len(words)} numbers")
            return None
        slate = np.zeros(self.shop.k, np.int64)
        slate[: len(words)] = [shelf[int(word) - 1] for word in words]
        return slate

    def _totals(self) -> dict[str, Any]:
        """What the game came to."""
        info = [one.info for one in self.shown]
        chances = [float(one.told.click[0].sum()) for one in self.shown if one.told is not None]
        best = [one.best for one in self.shown if one.best is not None]
        return {
            "player": "you" if self.choose else self.shop.player,
            "seed": self.seed,
            "shoppers": self.shoppers,
            "slates": [one.plain(self.shop.catalogue) for one in self.shown],
            "totals": {
                "slates": len(info),
                "clicks": sum(one["clicked"] >= 0 for one in info),
                "carts": sum(bool(one["carted"]) for one in info),
                "purchases": sum(bool(one["purchased"]) for one in info),
                "revenue": sum(one["revenue"] for one in info),
                "reward": sum(one.reward for one in self.shown),
                "expected_clicks": sum(chances) if chances else None,
                "best_expected_clicks": sum(best) if best else None,
            },
        }


def _line() -> str:
    """A line from standard input.

    Waits in short turns: of a Ctrl-C that comes just before a read begins, nothing would be noticed until the next key.

    Raises:
        EOFError: there is none left.
    """
    if os.name == "posix" and sys.stdin.isatty():
        while not select.select([sys.stdin], [], [], 0.2)[0]:
            pass
    return input()
