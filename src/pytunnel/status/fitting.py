"""A table that shows in a narrow terminal what it can, in whole words, and leaves out the rest."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from rich.console import Console, ConsoleOptions
from rich.measure import Measurement
from rich.table import Table
from rich.text import Text

from pytunnel.system.logs import one_line

_UNLIMITED = 10_000  # columns
_LONG = frozenset({"from", "to", "peer", "cipher"})  # folded where nothing else is left to leave out


@dataclass(frozen=True, slots=True)
class FittingTable:
    """`rows` has a cell for each of `columns`.

    Where these don't fit, each of `parts` is a table of its own, and `expendable` columns are left out of it, the first
    of them first.
    """

    columns: tuple[str, ...]
    rows: Sequence[tuple[str, ...]]
    parts: tuple[tuple[str, ...], ...]
    expendable: tuple[str, ...]

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> Iterator[Table | Text]:
        if self._fits(self.columns, console, options):
            yield self._table(self.columns)
            return
        for number, part in enumerate(self.parts):
            if number:
                yield Text("")
            yield self._table(self._without_expendable(part, console, options))

    def _without_expendable(
        self, columns: tuple[str, ...], console: Console, options: ConsoleOptions
    ) -> tuple[str, ...]:
        for name in self.expendable:
            if self._fits(columns, console, options):
                break
            columns = tuple(column for column in columns if column != name)
        return columns

    def _fits(self, columns: tuple[str, ...], console: Console, options: ConsoleOptions) -> bool:
        unlimited = options.update(max_width=_UNLIMITED)
        return Measurement.get(console, unlimited, self._table(columns)).maximum <= options.max_width

    def _table(self, columns: tuple[str, ...]) -> Table:
        table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
        for column in columns:
            table.add_column(column, header_style="bold", overflow="fold", no_wrap=column not in _LONG)
        places = [self.columns.index(column) for column in columns]
        for row in self.rows:
            table.add_row(*(safe_text(row[place]) for place in places))
        return table


def safe_text(text: str, style: str = "") -> Text:
    """Text with nothing in it that a terminal would obey: names come from peers."""
    return Text(one_line(text), style)
