"""The command line: `conduit …`.

Importing it imports neither typer nor rich, and no command imports what it works with before it
runs, so that `conduit --help` is there at once.
"""


def main() -> None:
    """Run the command that the process was called with."""
    from conduit.cli.app import app

    app()


__all__ = ["main"]
