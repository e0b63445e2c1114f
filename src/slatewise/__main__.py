"""`python -m slatewise`."""

from .cli import main

main()
