"""The server's option files, as its own my_print_defaults reads them: groups of options as values."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable, Iterable
from dataclasses import dataclass

import trio

from pytunnel.sst.errors import ExitCode, SstError
from pytunnel.sst.request import Request, ServerOption, option_name, server_option_name

_PROGRAM = "my_print_defaults"
_ALL_OF_SERVER = "--mysqld"
_GROUPS_OF_SERVER = ("mysqld", "server")  # for MySQL's and Percona's program, which doesn't know that option
_TIME_LIMIT = 30.0  # seconds; it reads a few files
_NO_REASON = "Fatal error in defaults handling"  # its last line, whatever was wrong
_ON = (None, "1", "on", "true", "yes")


@dataclass(frozen=True, slots=True)
class OptionGroup:
    """Options in the order of the files; a later one goes before an earlier one of the same name.

    Names are the same with `_` or `-`, and with or without `loose-`. `"x" in group` tells an option without a value
    from one that is missing. `warnings` is what my_print_defaults had to say, such as a file that it left out.
    """

    options: tuple[ServerOption, ...] = ()
    warnings: tuple[str, ...] = ()

    def __contains__(self, name: object) -> bool:
        return isinstance(name, str) and any(option.name == option_name(name) for option in self.options)

    def get(self, name: str) -> str | None:
        """The option's last value; None where it stands without a value or not at all."""
        named = [option.value for option in self.options if option.name == option_name(name)]
        return named[-1] if named else None

    def is_on(self, name: str) -> bool:
        """Whether the option is a switch that is on: it stands without a value, or says so."""
        value = self.get(name)
        return name in self and (value if value is None else value.lower()) in _ON


async def read_group(request: Request, group: str) -> OptionGroup:
    """The group `[group]`, and `[groupSUFFIX]` after it where the server has a defaults-group-suffix.

    Raises SstError when my_print_defaults is missing or fails.
    """
    return await _ask(request, group)


async def read_server(request: Request) -> OptionGroup:
    """All groups that the server itself reads, in its order; names may be abbreviated. Raises as read_group does."""
    return await _ask(request, _ALL_OF_SERVER, named=server_option_name)


def parse_output(output: bytes, named: Callable[[str], str] = option_name) -> Iterable[ServerOption]:
    """The options that my_print_defaults printed: one `--key=value` or `--key` a line; `named` tells a key's name."""
    for line in os.fsdecode(output).split("\n"):
        if line.startswith("--"):
            name, equals, value = line[2:].partition("=")
            yield ServerOption(named(name), value if equals else None)


def command_line(request: Request, *groups: str) -> list[str]:
    """How my_print_defaults is called; it wants the options about files before all others."""
    about_files = (
        ("--defaults-file", request.defaults_file),
        ("--defaults-extra-file", request.defaults_extra_file),
        ("--defaults-group-suffix", request.defaults_group_suffix),
    )
    return [_PROGRAM, *(f"{option}={value}" for option, value in about_files if value is not None), *groups]


async def _ask(request: Request, *groups: str, named: Callable[[str], str] = option_name) -> OptionGroup:
    command = command_line(request, *groups)
    try:
        with trio.fail_after(_TIME_LIMIT):
            ran = await trio.run_process(command, capture_stdout=True, capture_stderr=True)
    except OSError as error:
        raise _failure(f"{_PROGRAM} can't be run ({error.strerror}); is it on the server's PATH?") from error
    except subprocess.CalledProcessError as error:
        if groups == (_ALL_OF_SERVER,) and b"unknown option" in error.stderr:
            return await _ask(request, *_GROUPS_OF_SERVER, named=named)
        said = ", ".join(line for line in _lines(error.stderr) if not line.startswith(_NO_REASON)) or "nothing"
        advice = "correct that" if _are_there(request) else "give the path of an existing file that can be read"
        raise _failure(f"{_PROGRAM} ended with status {error.returncode} and said: {said}; {advice}") from error
    except trio.TooSlowError as error:
        raise _failure(f"{_PROGRAM} did not end within {_TIME_LIMIT:g} seconds") from error
    return OptionGroup(tuple(parse_output(ran.stdout, named)), tuple(_lines(ran.stderr)))


def _are_there(request: Request) -> bool:
    named = (request.defaults_file, request.defaults_extra_file)
    return all(path is None or os.access(path, os.R_OK) for path in named)


def _lines(output: bytes) -> list[str]:
    return [line.strip() for line in output.decode(errors="replace").splitlines() if line.strip()]


def _failure(what: str) -> SstError:
    return SstError(f"the server's option files can't be read: {what}", exit_code=ExitCode.MISSING)
