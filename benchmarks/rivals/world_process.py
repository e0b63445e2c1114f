"""Other people's worlds of shoppers, as a process in an environment of its own: rows of slates in, rows of answers out.

As a script it runs inside that environment, and imports the simulator and NumPy alone. Messages are NumPy's archives of
named arrays, each after its size in eight bytes. Rows are shoppers of their own; who leaves is followed at once by
another.

Shapes: B rows, K slots, N items, C candidates, D topics.
"""

import argparse
import importlib.metadata
import io
import json
import os
import subprocess
import sys
import tempfile
import warnings
from functools import partial
from pathlib import Path
from typing import IO, Any

import numpy as np

Arrays = dict[str, np.ndarray]


def send(stream: IO[bytes], arrays: Arrays) -> None:
    """Write one message."""
    held = io.BytesIO()
    np.savez(held, **arrays)  # pyright: ignore[reportArgumentType]
    stream.write(held.tell().to_bytes(8, "little") + held.getvalue())
    stream.flush()


def receive(stream: IO[bytes]) -> Arrays | None:
    """Read one message; None at the end of the stream."""
    size = stream.read(8)
    if len(size) < 8:
        return None
    with np.load(io.BytesIO(stream.read(int.from_bytes(size, "little")))) as arrays:
        return dict(arrays)


class SardineRows:
    """An environment of SARDINE's, as it is registered.

    Told of a shopper: the slate shown, which slots were clicked, and "hist", all as SARDINE observes them. Slates hold
    items 0 to N - 1. Two of them are filled here, by what no agent is told: of -1 by SARDINE's own greedy oracle, of -3
    by a guard, which shows the most relevant items of topics that cannot yet bore the shopper.
    """

    def __init__(self, rows: int, name: str) -> None:
        import gymnasium
        import sardine  # noqa: F401  # pyright: ignore[reportMissingImports]

        self.envs = [gymnasium.make(f"sardine/{name}").unwrapped for _ in range(rows)]
        self.catalogue = {"vectors": np.float32(self.envs[0].item_embedd)}  # pyright: ignore[reportAttributeAccessIssue]

    def reset(self, row: int, seed: int | None) -> Arrays:
        """A new shopper, who has seen one random slate."""
        return self.envs[row].reset(seed=seed)[0]

    def step(self, row: int, slate: np.ndarray) -> tuple[Arrays, float, bool]:
        """What is told after a slate, the number of clicks, and whether it was the last."""
        env = self.envs[row]
        shown = guarded(env) if slate[0] == -3 else slate
        told, reward, ended, _, _ = env.step(shown)
        return told, float(reward), ended


def guarded(env: Any) -> np.ndarray:
    """Items by true relevance, of each topic at most as many as the last clicks leave room for."""
    relevance = env.item_embedd @ env.cur_user_embedd
    recent = np.bincount(np.asarray(env.clicked_item_topics, int), minlength=env.num_topics)
    room = np.maximum(env.boredom_thresh - 1 - recent, 0)
    slate: list[int] = []
    later: list[int] = []
    for item in np.argsort(-relevance):
        topic = env.item_comp[item]
        liked = relevance[item] > env.offset
        if room[topic] > 0 and liked:
            room[topic] -= 1
            slate.append(item)
        elif not liked:
            later.append(item)
        if len(slate) == env.slate_size:
            break
    return np.array([*slate, *later[::-1]][: env.slate_size])


class RecSimRows:
    """RecSim's interest evolution with the settings of SlateQ: 10 candidates of 20 topics a step, slates of 3.

    Told of a shopper: interests (D,), and the topics of the candidates (C,), both as RecSim observes them (topics as
    one-hot vectors); after a slate also the slot clicked or -1. Slates are of places 0 to C - 1.
    """

    def __init__(self, rows: int) -> None:
        from recsim.environments import interest_evolution  # pyright: ignore[reportMissingImports]

        self._make = interest_evolution.create_environment
        self.envs: list[Any] = [None] * rows
        self.catalogue = {"vectors": np.eye(20, dtype=np.float32)}

    def reset(self, row: int, seed: int | None) -> Arrays:
        """A new shopper, and new candidates."""
        if seed is not None:
            named = {"slate_size": 3, "num_candidates": 10, "resample_documents": True, "seed": seed}
            self.envs[row] = self._make(named)
        return self._told(self.envs[row].reset(), -1)

    def step(self, row: int, slate: np.ndarray) -> tuple[Arrays, float, bool]:
        """What is told after a slate, the minutes watched, and whether the shopper's time is up."""
        seen, reward, ended, _ = self.envs[row].step(slate)
        clicked = [place for place, one in enumerate(seen["response"]) if one["click"]]
        return self._told(seen, clicked[0] if clicked else -1), float(reward), ended

    def _told(self, seen: Any, clicked: int) -> Arrays:
        topics = np.array([int(np.argmax(one)) for one in seen["doc"].values()])
        return {"interests": np.asarray(seen["user"], np.float32), "topics": topics, "clicked": np.asarray(clicked)}


SARDINES = {
    "sardine": "SlateTopK-Bored-v0",
    "sardine_inf": "SlateTopK-BoredInf-v0",
    "sardine_uncertain": "SlateTopK-Uncertain-v0",
    "sardine_rerank": "SlateRerank-Bored-v0",
    "sardine_static": "SlateRerank-Static-v0",
}
"""World -> SARDINE's name of it: all its environments of slates."""
WORLDS: dict[str, Any] = {name: partial(SardineRows, name=one) for name, one in SARDINES.items()}
WORLDS["recsim"] = RecSimRows


def stacked(rows: list[Arrays]) -> Arrays:
    """(B, ...) arrays from rows."""
    return {name: np.stack([np.asarray(row[name]) for row in rows]) for name in rows[0]}


def serve(world: Any, source: IO[bytes], sink: IO[bytes]) -> None:
    """Answer until nothing more is asked. A row that ended is told its last view, and then its next shopper's first."""
    fresh: list[Arrays] = []
    while (asked := receive(source)) is not None:
        if "seeds" in asked:
            np.random.seed(int(asked["seeds"][0]) % 2**32)  # noqa: NPY002, RecSim's own source of choices
            fresh = [world.reset(row, int(seed)) for row, seed in enumerate(asked["seeds"])]
            send(sink, stacked(fresh))
            continue
        shown = zip(asked["slates"], asked["idle"], fresh, strict=True)
        answers = [
            (told, 0.0, False) if idle else world.step(row, slate) for row, (slate, idle, told) in enumerate(shown)
        ]
        last = [told for told, _, _ in answers]
        fresh = [world.reset(row, None) if ended else told for row, (told, _, ended) in enumerate(answers)]
        message = {f"last_{name}": one for name, one in stacked(last).items()} | stacked(fresh)
        message["reward"] = np.array([reward for _, reward, _ in answers], np.float32)
        message["ended"] = np.array([ended for _, _, ended in answers])
        send(sink, message)


class World:
    """Our end: rows of shoppers in a process beside us.

    Args:
        python: the interpreter of the simulator's environment.
        name: of `WORLDS`.
        rows: B.

    Attributes:
        about: versions of what runs there.
        catalogue: what the simulator tells of its items: "vectors" (N, D).
    """

    def __init__(self, python: Path, name: str, rows: int) -> None:
        command = [str(python), "-W", "ignore", __file__, name, str(rows)]
        self._said = tempfile.TemporaryFile()  # noqa: SIM115, closed in `close`
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self._said)
        self.rows = rows
        self.catalogue = self._answer()
        self.about = json.loads(bytes(self.catalogue.pop("about")))

    def reset(self, seeds: np.ndarray) -> Arrays:
        """New shoppers in all rows, by a seed each, (B,); what they are told first."""
        return self._ask({"seeds": np.asarray(seeds, np.int64)})

    def step(self, slates: np.ndarray, idle: np.ndarray) -> Arrays:
        """What (B, K) slates brought: "reward", "ended", the last views "last_...", and the views to go on from.

        In rows that are `idle`, (B,) bool, nothing happens.
        """
        return self._ask({"slates": np.asarray(slates, np.int64), "idle": idle})

    def close(self) -> None:
        """End the process."""
        self._process.communicate()
        self._said.close()

    def _ask(self, arrays: Arrays) -> Arrays:
        assert self._process.stdin is not None
        send(self._process.stdin, arrays)
        return self._answer()

    def _answer(self) -> Arrays:
        assert self._process.stdout is not None
        answer = receive(self._process.stdout)
        if answer is None:
            self._said.seek(0)
            raise RuntimeError(self._said.read()[-2_000:].decode(errors="replace") or "the simulator's process ended")
        return answer


def main() -> None:
    warnings.filterwarnings("ignore")
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("name", choices=WORLDS)
    parser.add_argument("rows", type=int)
    args = parser.parse_args()
    sink = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # simulators print what they like
    world = WORLDS[args.name](args.rows)
    wanted = ("sardine-rec", "recsim-no-tf", "gym", "gymnasium", "numpy")
    held = {one.metadata["Name"].lower(): one.version for one in importlib.metadata.distributions()}
    about = json.dumps({name: held[name] for name in wanted if name in held}).encode()
    send(sink, world.catalogue | {"about": np.frombuffer(about, np.uint8)})
    serve(world, sys.stdin.buffer, sink)


if __name__ == "__main__":
    main()
