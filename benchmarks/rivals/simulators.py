"""Other simulators of shoppers, each in an environment of its own: what they need, and a process that is timed.

As a script it runs inside such an environment, and imports the simulator and NumPy alone: for each line that it reads,
it shows some slates, and writes how long that took.
"""

import argparse
import hashlib
import importlib.metadata
import json
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

GYM = ("gym==0.26.2", "numpy==1.26.4")
NEEDS: dict[str, list[list[tuple[str, ...]]]] = {
    "SARDINE": [[("sardine-rec==1.0.8", "gymnasium==1.2.2", "numpy==1.26.4")]],
    # RecSim itself wants TensorFlow, which its agents alone use; this is its own release without.
    "RecSim": [[("--no-deps", "recsim-no-tf==0.2.3"), (*GYM, "scipy==1.10.1", "gin-config==0.5.0", "absl-py", "six")]],
    "RecoGym": [
        [("--no-deps", "recogym==0.1.3.0"), (*RECOGYM, *torch)]
        for RECOGYM in [(*GYM, "scipy==1.10.1", "pandas==2.2.3", "scikit-learn==1.5.2", "matplotlib", "numba", "tqdm")]
        for torch in (
            ("torch==2.13.0+cpu",),
            ("torch==2.13.0+cpu", "--extra-index-url", "https://download.pytorch.org/whl/cpu"),
            ("torch==2.13.0",),
        )
    ],
}
"""Simulator -> ways to fill its environment, see `environment`."""
LEFT_OUT = {
    "Virtual-Taobao": "not on PyPI",
}
"""Simulators that cannot be measured, and why."""
TOPICS = 10  # of SARDINE's items, as in the environments it registers
Step = Callable[[int], None]


def sardine(n_items: int, k: int, slates: np.ndarray, seed: int) -> Step:
    """SARDINE's slates of the best k, with boredom; its step scores the whole catalogue."""
    import gymnasium
    import sardine  # noqa: F401  # pyright: ignore[reportMissingImports]

    rng = np.random.default_rng(seed)
    topics = rng.random((n_items, TOPICS)) * (rng.random((n_items, TOPICS)) < 0.25)
    topics[np.arange(n_items), rng.integers(0, TOPICS, n_items)] += 0.5
    path = Path(tempfile.mkdtemp()) / "items.npy"
    np.save(path, topics / np.linalg.norm(topics, axis=1, keepdims=True))
    named = {"num_items": n_items, "slate_size": k, "env_embedds": str(path)}
    env = gymnasium.make("sardine/SlateTopK-Bored-v0", **named)
    env.reset(seed=seed)

    def step(number: int) -> None:
        _, _, terminated, truncated, _ = env.step(slates[number])
        if terminated or truncated:
            env.reset()

    return step


def recsim(n_items: int, k: int, slates: np.ndarray, seed: int) -> Step:
    """RecSim's interest evolution, the fastest of its three environments, with the same items throughout."""
    from recsim.environments import interest_evolution  # pyright: ignore[reportMissingImports]

    config = {"slate_size": k, "num_candidates": n_items, "resample_documents": False, "seed": seed}
    env = interest_evolution.create_environment(config)
    env.reset()

    def step(number: int) -> None:
        if env.step(slates[number])[2]:
            env.reset()

    return step


def recogym(n_items: int, k: int, slates: np.ndarray, seed: int) -> Step:
    """RecoGym's second environment; it knows no slates, so that one item is shown a step."""
    del k
    from recogym import env_1_args  # pyright: ignore[reportMissingImports]
    from recogym.envs import RecoEnv1  # pyright: ignore[reportMissingImports]

    env, shoppers = RecoEnv1(), 0
    env.init_gym({**env_1_args, "random_seed": seed, "num_products": n_items})
    items = slates[:, 0].tolist()

    def begin() -> None:
        nonlocal shoppers
        while True:  # some leave before anything is shown
            env.reset(shoppers)
            shoppers += 1
            if not env.step(None)[2]:
                return

    def step(number: int) -> None:
        if env.step(items[number])[2]:
            begin()

    begin()
    return step


class Process:
    """A simulator at work beside ours.

    Args:
        python: the interpreter of its environment.
        name: of `NEEDS`.
        n_items: of the catalogue. k: slots. steps: shown at a time. seed: of everything.
    """

    def __init__(self, python: Path, name: str, n_items: int, k: int, steps: int, seed: int) -> None:
        numbers = [str(one) for one in (n_items, k, steps, seed)]
        self._process = subprocess.Popen(
            [str(python), "-W", "ignore", __file__, name, *numbers],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        self.steps, self.about = steps, self._read()

    def timed(self) -> tuple[float, float]:
        """Steps a second of processor time, and of the clock."""
        assert self._process.stdin is not None
        self._process.stdin.write("\n")
        self._process.stdin.flush()
        told = self._read()
        return self.steps / told["cpu"], self.steps / told["wall"]

    def close(self) -> None:
        """End it."""
        self._process.communicate()

    def _read(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            if line.startswith("{"):  # simulators print what they like
                return json.loads(line)
        raise RuntimeError((self._process.communicate()[1] or "it ended")[-1_000:])


def folder_of(name: str, cache: Path, base: str) -> Path:
    """Where the environment of a simulator is kept."""
    mark = hashlib.sha256(json.dumps([base, NEEDS[name]]).encode()).hexdigest()[:8]
    return cache / f"{name.lower()}-{mark}"


def main() -> None:
    warnings.filterwarnings("ignore")
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("name", choices=NEEDS)
    for number in ("n_items", "k", "steps", "seed"):
        parser.add_argument(number, type=int)
    args = parser.parse_args()
    rng = np.random.default_rng(args.seed)
    slates = np.stack([rng.permutation(args.n_items)[: args.k] for _ in range(min(args.steps, 512))])
    make = {"SARDINE": sardine, "RecSim": recsim, "RecoGym": recogym}[args.name]
    step = make(args.n_items, args.k, slates, args.seed)
    wanted = ("sardine-rec", "recsim-no-tf", "recogym", "gym", "gymnasium", "numpy")
    held = {one.metadata["Name"].lower(): one.version for one in importlib.metadata.distributions()}
    print(json.dumps({name: held[name] for name in wanted if name in held}), flush=True)
    for _ in sys.stdin:
        wall, cpu = time.perf_counter(), time.process_time()
        for number in range(args.steps):
            step(number % len(slates))
        print(json.dumps({"cpu": time.process_time() - cpu, "wall": time.perf_counter() - wall}), flush=True)


if __name__ == "__main__":
    main()
