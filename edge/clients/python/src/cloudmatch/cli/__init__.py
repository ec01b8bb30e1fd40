"""The command ``cloudmatch``: ``pip install 'cloudmatch[cli]'``."""

import sys


def main() -> None:
    """Run the command."""
    try:
        from cloudmatch.cli.commands import command
    except ModuleNotFoundError as missing:
        if missing.name not in ("typer", "rich"):
            raise
        sys.stderr.write("The command needs two more packages: pip install 'cloudmatch[cli]'\n")
        raise SystemExit(1) from None
    command()
