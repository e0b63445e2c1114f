"""The command line: `slatewise demo | ingest | pretrain | fit | train | evaluate | export | serve`."""

import os


def main() -> None:
    """Run the command line.

    One thread does the arithmetic unless OMP_NUM_THREADS says otherwise: the models are small, and two threads that
    wait for each other on a busy machine took 12 times the processor time of one (measured on two shared cores).
    """
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    from .commands import app

    app()


__all__ = ["main"]
