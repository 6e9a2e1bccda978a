"""`python -m` starts here."""

from .cli import main

main()
