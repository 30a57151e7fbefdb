"""What `pytunnel status` does: shows how a running pytunnel is, live in a terminal, once elsewhere."""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from pytunnel.service.options import ConfigurationError
from pytunnel.status.address import STATUS_SOCKET, StatusEndpoint, parse_status_address
from pytunnel.status.asking import ask
from pytunnel.status.errors import StatusError
from pytunnel.status.place import in_directory
from pytunnel.status.snapshot import Snapshot, to_json

_INTERVAL = 1.0  # seconds between two looks
_WIDTH = 240  # columns of plain text, which nobody folds


def run_status(arguments: argparse.Namespace) -> int:
    """Show it until it ends, or once."""
    with _place(arguments) as endpoint:
        first = ask(endpoint)
        if arguments.json:
            print(json.dumps(to_json(first)))
        elif sys.stdout.isatty():
            _follow(first, lambda: ask(endpoint))
        else:
            _print(first)
    return 0


@contextmanager
def _place(arguments: argparse.Namespace) -> Iterator[StatusEndpoint]:
    if arguments.datadir is not None:
        with in_directory(arguments.datadir) as endpoint:
            try:
                yield endpoint
            except StatusError as error:
                if isinstance(error.__cause__, FileNotFoundError | ConnectionRefusedError):
                    raise StatusError(f"no state transfer runs in {arguments.datadir}") from error
                shown = str(error).replace(endpoint.path, str(arguments.datadir / STATUS_SOCKET))
                raise StatusError(shown) from error
        return
    address = arguments.address or os.environ.get("PYTUNNEL_STATUS")
    if not address:
        raise ConfigurationError("where to ask is not known: give ADDRESS, --datadir DIR, or PYTUNNEL_STATUS")
    yield parse_status_address(address)


def _print(snapshot: Snapshot) -> None:
    from rich.console import Console

    from pytunnel.status.display import draw

    Console(width=_WIDTH, color_system=None, highlight=False).print(draw(snapshot))


def _follow(snapshot: Snapshot, look: Callable[[], Snapshot]) -> None:
    """Draw until the process that is watched ends, or its watcher has seen enough (Ctrl-C).

    Raises StatusError where it is there, but says nothing that can be shown.
    """
    from rich.console import Console
    from rich.live import Live

    from pytunnel.status.display import draw

    try:
        with Live(draw(snapshot), console=Console(highlight=False), auto_refresh=False) as live:
            while True:
                time.sleep(_INTERVAL)
                live.update(draw(look()), refresh=True)
    except StatusError as error:
        if not isinstance(error.__cause__, FileNotFoundError | ConnectionError):
            raise
        print("ended")
    except KeyboardInterrupt:
        print()
