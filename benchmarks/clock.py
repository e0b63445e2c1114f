"""What a long benchmark says while it runs: what is done, and after how much processor time."""

import time

_began = time.process_time()


def cpu_seconds() -> float:
    """Of this process, since the benchmark began."""
    return round(time.process_time() - _began, 1)


def told(words: str) -> None:
    """Say what is done, and after how much processor time."""
    print(f"[{cpu_seconds():6.0f} s] {words}", flush=True)
