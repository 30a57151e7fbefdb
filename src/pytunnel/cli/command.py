"""What all commands of the program have in common on the command line: examples, `--debug`, one-line errors."""

from __future__ import annotations

import argparse
import importlib
from collections.abc import Callable, Sequence
from difflib import get_close_matches
from typing import Any, NoReturn, TypeAlias

from pytunnel.system import logs

_ALIKE = 0.75  # of difflib's 0 to 1: crt and cert, but not ca and cert


class CommandParser(argparse.ArgumentParser):
    """Says what is wrong in one line, like every other error; the usage is in the help.

    Options are written in full: `--no-v` must not be `--no-verify`, and mean something else when there is one more.
    """

    def __init__(self, **words: Any) -> None:
        super().__init__(**words, allow_abbrev=False)

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> Any:
        """Refuse here what is not known: else the program would, which has another help than its command."""
        found, unknown = super().parse_known_args(args, namespace)
        if unknown:
            # What stands behind an unknown option was taken for a place, so that a place may be left over.
            options = [word for word in unknown if word.startswith("-") and word != "-"]
            self.error(f"unrecognized arguments: {' '.join(options or unknown)}{self._meant(options)}")
        return found, unknown

    def _meant(self, options: Sequence[str]) -> str:
        names = [name.removeprefix("--") for name in self._option_string_actions if name.startswith("--")]
        given = (option.partition("=")[0].removeprefix("--") for option in options)
        near = [f"--{name}" for word in given for name in get_close_matches(word, names, 1, _ALIKE)]
        return f" (did you mean {', '.join(near)}?)" if near else ""

    def error(self, message: str) -> NoReturn:
        logs.complain(self.prog, f"{message}; see {self.prog} --help")
        self.exit(2)


Handler: TypeAlias = Callable[[argparse.Namespace], int]
"""Does what a command's arguments say; returns the exit code."""

Commands: TypeAlias = "argparse._SubParsersAction[CommandParser]"
"""What a new command is added to; argparse has no public name for it."""


def add_command(commands: Commands, name: str, summary: str, examples: str) -> CommandParser:
    """Add the command `name`; `examples` stand below its options in `--help`."""
    parser = commands.add_parser(
        name,
        help=summary,
        description=summary[0].upper() + summary[1:] + ".",
        epilog=examples,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--debug", action="store_true", help="log more, and show tracebacks")
    return parser


def lazily(module: str, name: str) -> Handler:
    """What `name` in `module` does with a command's arguments; imported when the command is run, not to tell of it."""

    def run(arguments: argparse.Namespace) -> int:
        handler: Handler = getattr(importlib.import_module(module), name)
        return handler(arguments)

    return run
