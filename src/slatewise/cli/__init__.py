"""The command line: `slatewise demo | ingest | pretrain | fit | train | evaluate | export | serve`."""

import sys


def main() -> None:
    """Run the command line."""
    try:
        from .commands import app

        app()
    except KeyboardInterrupt:  # before a command had begun
        sys.exit(130)


__all__ = ["main"]
