"""The commands of `conduit`, put together."""

from __future__ import annotations

from typing import Annotated

import typer

from conduit.cli import databases, demo, doctor, evaluating, routing

EPILOG = "Every command has --json and --help. Docs: the folder docs/ of the repository."

app = typer.Typer(
    name="conduit",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,  # loading rich for a page of help takes longer than all else
    epilog=EPILOG,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)


def _version(value: bool) -> None:
    if value:
        from conduit import __version__

        typer.echo(f"conduit {__version__}")
        raise typer.Exit


@app.callback()
def conduit(
    version: Annotated[
        bool,
        typer.Option("--version", callback=_version, is_eager=True, help="Print the version."),
    ] = False,
) -> None:
    """Route each LLM query to the model that will serve it best, and learn from what happens."""


app.command("route")(routing.route)
app.command("explain", short_help="Show how a decision of the past was made.")(routing.explain)
app.command("models", short_help="List the known models: keys, prices, quality priors.")(
    routing.models
)
app.command("stats", short_help="Show share, quality, spend and speed per model.")(routing.stats)
app.command("demo", short_help="Watch Conduit learn, offline, with simulated models.")(demo.demo)
app.command("replay", short_help="Replay your own table of answers.")(evaluating.replay)
app.command("calibrate", short_help="Have every model answer your prompts, and start warm.")(
    evaluating.calibrate
)
app.command("forget", short_help="Delete everything about a user.")(databases.forget)
app.command("quarantine", short_help="Learn anew without a user, whose rows stay.")(
    databases.quarantine
)
app.command("doctor", short_help="Check keys, database, Redis, versions and clock.")(doctor.doctor)
app.add_typer(databases.db, name="db", short_help="Upgrade, check or prune the database.")
