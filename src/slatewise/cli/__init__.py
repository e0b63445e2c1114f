"""The command line: `slatewise demo | ingest | pretrain | fit | train | evaluate | export | serve`."""


def main() -> None:
    """Run the command line."""
    from .commands import app

    app()


__all__ = ["main"]
