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
app.command("explain")(routing.explain)
app.command("models")(routing.models)
app.command("stats")(routing.stats)
app.command("demo")(demo.demo)
app.command("replay")(evaluating.replay)
app.command("calibrate")(evaluating.calibrate)
app.command("forget")(databases.forget)
app.command("quarantine")(databases.quarantine)
app.command("doctor")(doctor.doctor)
app.add_typer(databases.db, name="db")
