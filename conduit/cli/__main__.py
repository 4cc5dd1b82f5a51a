"""`python -m conduit.cli` is `conduit`."""

from conduit.cli import main

main()
