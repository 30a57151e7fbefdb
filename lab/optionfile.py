"""The text of a server's option file."""

from __future__ import annotations

from collections.abc import Mapping

# None stands for an option that is written without a value.
Options = Mapping[str, str | None]


def option_file(groups: Mapping[str, Options]) -> str:
    """The groups as the server's option files have them."""
    return "\n".join(_group(name, options) for name, options in groups.items())


def _group(name: str, options: Options) -> str:
    lines = [key if value is None else f"{key}={value}" for key, value in options.items()]
    return "\n".join((f"[{name}]", *lines, ""))
