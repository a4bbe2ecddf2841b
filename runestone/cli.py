"""The command line: ``runestone serve``, ``ctl``, ``console``, ``check``, ``config``, ``completion``, ``version``."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import runestone

_FLAGS = {
    "--host": "the address of the API and the health port (RUNESTONE_HOST)",
    "--port": "the API's port (RUNESTONE_PORT)",
    "--health-port": "the health port (RUNESTONE_HEALTH_PORT)",
    "--log-level": "from which level on there are lines (RUNESTONE_LOG_LEVEL)",
}
_BOXES = (
    "endpoints",
    "failover",
    "breakers",
    "health",
    "metrics",
    "costs",
    "performance",
    "errors",
    "telemetry",
    "legacy",
)
_INTERRUPTED = 130
_CUT_SHORT = 141  # as of a program that SIGPIPE has ended


def main(argv: Sequence[str] | None = None) -> int:
    """Run the program; the result is its exit code."""
    from runestone.console import options  # noqa: PLC0415 - a command pays for what it uses alone

    words = list(sys.argv[1:] if argv is None else argv)
    if words[:1] == ["ctl"]:
        words = options.spelled_out(words)
    parser = options.Parser(prog="runestone", description="An LLM gateway that stays up when providers don't.")
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
    serve = commands.add_parser("serve", help="run the gateway")
    serve.add_argument("--demo", action="store_true", help="with simulated providers: no key, no network")
    serve.add_argument(
        "--allow-faults",
        action="store_true",
        help="let the console crash actors and put faults in front of providers, as --demo does",
    )
    serve.add_argument(
        "--unsafe-eval",
        action="store_true",
        help="let whoever may open the admin socket run any Python in the node",
    )
    serve.add_argument("--config", type=Path, metavar="FILE", help="a runestone.toml (RUNESTONE_CONFIG)")
    serve.add_argument("--watch", action="store_true", help="reload when the file changes (needs the extra watch)")
    for flag, text in _FLAGS.items():
        serve.add_argument(flag, help=text)
    serve.set_defaults(run=_serve)
    version = commands.add_parser("version", help="print the version")
    version.set_defaults(run=_version)
    check = commands.add_parser(
        "check", help="try the migration guide's checklist on a running node, without harm to it"
    )
    check.add_argument("--socket", type=Path, help="the node's admin socket (RUNESTONE_ADMIN_SOCKET)")
    check.add_argument("--json", action="store_true", help="one JSON object on standard output")
    check.add_argument(
        "--only", action="append", choices=_BOXES, metavar="BOX", help=f"of {', '.join(_BOXES)}; repeatable"
    )
    check.add_argument(
        "--key-env", metavar="VARIABLE", help="the variable that holds a key of the node, to ask its API"
    )
    check.set_defaults(run=_check)
    completing = "_ARGCOMPLETE" in os.environ
    if completing or "ctl" in words[:1]:
        from runestone.console import ctl  # noqa: PLC0415 - likewise

        ctl.add_parser(commands)
    else:
        commands.add_parser("ctl", help="ask or tell a running node")
    _add_console(commands)
    if completing or "config" in words[:1]:
        from runestone.console import config  # noqa: PLC0415 - likewise

        config.add_parser(commands)
    else:
        commands.add_parser("config", help="the settings: check, show, explain, init")
    if completing:
        from runestone.console import completion  # noqa: PLC0415 - likewise

        completion.answer(parser)
    try:
        try:
            arguments = parser.parse_args(words)
            code = int(arguments.run(arguments))
        except options.Usage as error:
            from runestone.console import ctl  # noqa: PLC0415 - likewise

            code = ctl.misused(error, as_json="ctl" in words[:1] and options.wants_json(words))
        sys.stdout.flush()
    except BrokenPipeError:  # whoever read the output has seen enough; nothing may be written at exit either
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return _CUT_SHORT
    return code


def _add_console(commands: Any) -> None:
    console = commands.add_parser("console", help="ask and tell a running node, again and again")
    console.add_argument("--socket", type=Path, help="the node's admin socket (RUNESTONE_ADMIN_SOCKET)")
    console.add_argument("-c", dest="commands", metavar="'COMMAND; …'", help="carry these out, and end")
    console.add_argument("--read-only", action="store_true", help="refuse what acts")
    console.set_defaults(run=_console)
    completion = commands.add_parser(
        "completion", help='what makes a shell complete: eval "$(runestone completion bash)"'
    )
    completion.add_argument("shell", choices=("bash", "zsh", "fish"))
    completion.set_defaults(run=_completion)


def _console(arguments: argparse.Namespace) -> int:
    from runestone.console.repl import start  # noqa: PLC0415 - a command pays for what it uses alone

    return start.run(arguments)


def _completion(arguments: argparse.Namespace) -> int:
    from runestone.console import completion  # noqa: PLC0415 - likewise

    return completion.run(arguments.shell)


def _version(_: argparse.Namespace) -> int:
    print(runestone.__version__)
    return 0


def _check(arguments: argparse.Namespace) -> int:
    try:
        from runestone.check import command  # noqa: PLC0415 - likewise

        return command.run(arguments)
    except KeyboardInterrupt:  # before it has begun
        return _INTERRUPTED


def _serve(arguments: argparse.Namespace) -> int:
    from runestone import serve  # noqa: PLC0415 - ctl must not wait for the server's imports

    given = {flag: getattr(arguments, flag[2:].replace("-", "_")) for flag in _FLAGS}
    flags = {flag: text for flag, text in given.items() if text is not None}
    return serve.run(
        demo=arguments.demo,
        allow_faults=arguments.allow_faults,
        unsafe_eval=arguments.unsafe_eval,
        watch=arguments.watch,
        config=arguments.config,
        flags=flags,
    )


if __name__ == "__main__":
    sys.exit(main())
