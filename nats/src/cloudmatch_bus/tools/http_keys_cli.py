"""Make a key for the HTTP APIs: ``cloudmatch-http-keys backend facts:read,devices:close >> keys``."""

import argparse
import secrets
import sys

from cloudmatch_bus.process import http_keys

DESCRIPTION = """Make a key for the HTTP APIs of services. The line for CLOUDMATCH_HTTP_KEYS_FILE goes to
stdout, the key to stderr: it is shown once, and kept nowhere."""


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser("cloudmatch-http-keys", description=DESCRIPTION)
    parser.add_argument("name", help="of whoever gets the key, as lines of the audit will name them")
    parser.add_argument("scopes", help=f"comma-separated: {', '.join(http_keys.SCOPES)}")
    parser.add_argument("app", nargs="?", help="the only one about which the key may ask (default: all)")
    arguments = parser.parse_args()
    key = f"cm_{secrets.token_urlsafe(32)}"
    made = http_keys.Key(
        arguments.name, http_keys.digest(key), frozenset(arguments.scopes.split(",")), arguments.app
    )
    try:
        text = http_keys.line(made)
    except ValueError as error:
        parser.error(str(error))
    sys.stdout.write(f"{text}\n")
    sys.stderr.write(f"the key of {made.name}, for `Authorization: Bearer …`: {key}\n")


if __name__ == "__main__":
    main()
