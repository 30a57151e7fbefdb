"""socat's syntax for address options: words, quotes, and how it writes numbers and times.

As socat 1.7.4 reads them. Two slips that socat lets pass, and that hide words from it, are errors here: a quote or a
bracket that is never closed, and a backslash at the very end.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator

_BRACKETS = {"(": ")", "[": "]", "{": "}"}
_QUOTES = "\"'"
_ESCAPES = {"n": "\n", "r": "\r", "t": "\t", "f": "\f", "b": "\b", "a": "\a", "v": "\v", "0": "\0"}


def split_words(text: str) -> Iterator[tuple[str, str | None]]:
    """The words of `text` in order, each with its value: None without "=". Empty words are left out.

    The outermost quotes vanish, brackets stay; both hide commas, "=" and "!!". All nest, but for what is in '...'.
    Raises ValueError.
    """
    name: str | None = None
    part = ""
    closing: list[str] = []  # what closes the open brackets and quotes, the innermost last
    rest = iter(enumerate(text))
    for position, character in rest:
        literal = bool(closing) and closing[-1] == "'"
        if character == "\\":
            part += _unescape(next(rest, (0, ""))[1])
        elif closing and character == closing[-1]:
            closing.pop()
            part += character if closing or character not in _QUOTES else ""
        elif not literal and character in _BRACKETS:
            closing.append(_BRACKETS[character])
            part += character
        elif not literal and character in _QUOTES:
            part += character if closing else ""
            closing.append(character)
        elif closing:
            part += character
        elif character == ",":
            yield from _word(name, part)
            name, part = None, ""
        elif character == "=" and name is None:
            name, part = part, ""
        elif text.startswith("!!", position):
            raise ValueError('"!!" joins two addresses in socat and has no meaning here; quote it if it is meant')
        else:
            part += character
    if closing:
        raise ValueError(
            f"a {closing[-1]} is missing; write a backslash before a bracket or quote that stands for itself"
        )
    yield from _word(name, part)


def _unescape(character: str) -> str:
    if not character:
        raise ValueError("nothing follows the last backslash; write two for the character itself")
    return _ESCAPES.get(character, character)


def _word(name: str | None, part: str) -> Iterator[tuple[str, str | None]]:
    if "\0" in part:
        raise ValueError(f"{name or part!r} holds a NUL character (\\0); remove it")
    if name is not None:
        yield name, part
    elif part:
        yield part, None


def read_integer(text: str, least: int, most: int = 2**31 - 1) -> int:
    """A number as C writes it: decimal, octal with a leading 0, hexadecimal with 0x.

    Raises ValueError with what was expected.
    """
    expected = f"a whole number from {least} to {most}"
    if not re.fullmatch(r"[+-]?(0[xX][0-9a-fA-F]+|0[0-7]*|[1-9][0-9]{0,18})", text, re.ASCII):
        raise ValueError(expected)
    octal = re.fullmatch(r"[+-]?0[0-7]+", text, re.ASCII) is not None
    number = int(text, 8 if octal else 0)
    if not least <= number <= most:
        raise ValueError(expected)
    return number


def read_flag(text: str) -> bool:
    """A truth value: 0 is false, any other number true. Raises ValueError with what was expected."""
    try:
        return read_integer(text, -(2**31)) != 0
    except ValueError as error:
        raise ValueError("0 or 1") from error


def read_seconds(text: str, least: float) -> float:
    """A time in seconds, fractions allowed. Raises ValueError with what was expected."""
    plausible = re.fullmatch(r"([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]+)?", text, re.ASCII)
    seconds = float(text) if plausible else math.nan
    if not least <= seconds < math.inf:
        raise ValueError(f"seconds such as 2.5, {least:g} or more")
    return seconds
