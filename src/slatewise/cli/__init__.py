"""The command line: `ingest | pretrain | grow | fit | train | tune | evaluate | export | serve | play | demo`."""

import os
import sys


def main() -> None:
    """Run the command line.

    One thread does the arithmetic unless OMP_NUM_THREADS says otherwise: the models are small, and two threads that
    wait for each other on a busy machine took twelve times the processor time of one (measured on two shared cores).
    """
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    try:
        from .commands import app

        app()
    except KeyboardInterrupt:  # before a command had begun
        sys.exit(130)


__all__ = ["main"]
