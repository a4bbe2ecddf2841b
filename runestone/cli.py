"""The command line: ``runestone serve``, ``runestone ctl``, ``runestone version``."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

import runestone

_EX_CONFIG = 78
_EX_UNAVAILABLE = 69


def main(argv: Sequence[str] | None = None) -> int:
    """Run the program; the result is its exit code."""
    parser = argparse.ArgumentParser(prog="runestone", description="An LLM gateway that stays up when providers don't.")
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
    serve = commands.add_parser("serve", help="run the gateway")
    serve.add_argument("--demo", action="store_true", help="with simulated providers: no key, no network")
    serve.add_argument("--allow-faults", action="store_true", help="let the console crash actors, as --demo does")
    serve.set_defaults(run=_serve)
    version = commands.add_parser("version", help="print the version")
    version.set_defaults(run=_version)
    from runestone.console import ctl  # noqa: PLC0415 - a command pays for what it uses alone

    ctl.add_parser(commands)
    arguments = parser.parse_args(argv)
    return int(arguments.run(arguments))


def _version(_: argparse.Namespace) -> int:
    print(runestone.__version__)
    return 0


def _serve(arguments: argparse.Namespace) -> int:
    from runestone import serve  # noqa: PLC0415 - ctl must not wait for the server's imports

    return serve.run(demo=arguments.demo, allow_faults=arguments.allow_faults)


if __name__ == "__main__":
    sys.exit(main())
