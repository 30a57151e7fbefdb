"""Wait for files to appear in a directory: an event instead of a loop that looks again and again."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from pytunnel.sst.errors import SstError
from pytunnel.system.inotify import Inotify

Found = TypeVar("Found")


async def wait_for(directory: Path, look: Callable[[], Found | None]) -> Found:
    """Call `look` now and after each change of a file in `directory` until it returns something else than None.

    Raises SstError when the directory can't be watched, and whatever `look` raises.
    """
    try:
        watch = Inotify()
    except OSError as error:
        raise _failed(directory, error) from error
    with watch:
        try:
            watch.add(directory, contents=True)
        except OSError as error:
            raise _failed(directory, error) from error
        while (found := look()) is None:
            await watch.changes()
        return found


def _failed(directory: Path, error: OSError) -> SstError:
    return SstError(f"{directory} can't be watched for changes: {error.strerror}")
