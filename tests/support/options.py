"""Option groups for tests, written as my_print_defaults prints them."""

from __future__ import annotations

from pytunnel.sst.optionfile import OptionGroup, parse_output


def options(*lines: str) -> OptionGroup:
    """A group of the options `key=value` or `key`, in this order."""
    return OptionGroup(tuple(parse_output("".join(f"--{line}\n" for line in lines).encode())))
