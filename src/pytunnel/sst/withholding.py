"""What keeps a server from starting on half a database: the files that a transfer deletes first and sends last.

Without its privilege tables no server starts. InnoDB's system files and the Aria log go too: without them InnoDB begins
anew where it is only asked for its position (--wsrep-recover), as a service does before each start; with those of
another moment it would fail, and the node would need a hand before it could ask for the next transfer.
"""

from __future__ import annotations

import logging
import os
import shutil

from pytunnel.sst.directories import Layout
from pytunnel.sst.manifest import FILE_SETS, PRIVILEGES

log = logging.getLogger(__name__)


def withhold(layout: Layout) -> None:
    """Delete them in a datadir whose transfer has failed after it began; a failure is told and hides no other."""
    found = [
        path for files in FILE_SETS for pattern in files.patterns for path in layout.directory_of(files).glob(pattern)
    ]
    try:
        for path in found:
            if not path.is_dir():
                path.unlink(missing_ok=True)
        privileges = layout.datadir / os.fsdecode(PRIVILEGES)
        if privileges.is_symlink():
            privileges.unlink()
        elif privileges.is_dir():
            shutil.rmtree(privileges)
    except OSError as error:
        log.warning("%s can't be deleted (%s): don't start this node without wsrep", error.filename, error.strerror)
    else:
        log.info("the data is not complete: no server starts on it before another transfer")
