"""Made-up datadirs: the shapes of databases that a snapshot is taken of, and what arrived of them."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from bench import pattern

SYSTEM_FILES = ("ibdata1", "ib_logfile0", "undo001", "aria_log_control")
_SYSTEM_BYTES = 1_000_000  # of each of them
_TABLES_OF_A_SMALL_SCHEMA = 8


@dataclass(frozen=True, slots=True)
class Shape:
    """`big` bytes in four tables of one schema, `small` bytes in so many `schemas` of eight tables each."""

    name: str
    big: int
    small: int
    schemas: int


def shapes(total: int, schemas: int) -> tuple[Shape, ...]:
    """The three shapes that are measured, each of `total` bytes."""
    half = total // 2
    return (
        Shape("one schema of 4 big tables", total, 0, 0),
        Shape(f"{schemas} small schemas", 0, total, schemas),
        Shape(f"a mix: 4 big tables and {schemas // 2} small schemas", half, half, schemas // 2),
    )


def fill(datadir: Path, shape: Shape) -> None:
    """Write the files of a shape into an existing, empty directory."""
    for number, (path, size) in enumerate(_files(shape)):
        file = datadir / path
        file.parent.mkdir(exist_ok=True)
        with file.open("wb") as out:
            for position in range(0, size, pattern.PIECE):
                out.write(pattern.piece(number * 65537 + position, size - position))


def digests(datadir: Path) -> dict[str, str]:
    """The SHA-256 of every file below `datadir`, by its path there."""
    found = {}
    for directory, _, names in os.walk(datadir):
        for name in names:
            path = Path(directory, name)
            with path.open("rb") as file:
                found[str(path.relative_to(datadir))] = hashlib.file_digest(file, "sha256").hexdigest()
    return found


def _files(shape: Shape) -> Iterator[tuple[str, int]]:
    for name in SYSTEM_FILES:
        yield name, _SYSTEM_BYTES
    for number in range(4 if shape.big else 0):
        yield f"big/table{number}.ibd", shape.big // 4
    for schema in range(shape.schemas):
        for number in range(_TABLES_OF_A_SMALL_SCHEMA):
            size = shape.small // shape.schemas // _TABLES_OF_A_SMALL_SCHEMA
            yield f"schema{schema:04}/table{number}.ibd", size
