"""Log lines in the server's form: `WSREP_SST: [INFO] text (20261122 04:00:00.000)`, on standard error."""

from __future__ import annotations

import logging
import time

from pytunnel.system.logs import one_line


class ServerFormatter(logging.Formatter):
    """The form of the server's own SST scripts, which its log and the tools that read it expect."""

    def format(self, record: logging.LogRecord) -> str:
        """One line; a traceback, which only a bug of ours can cause, is folded into it."""
        text = record.getMessage()
        if record.exc_info:
            text = f"{text}: {self.formatException(record.exc_info)}"
        level = "ERROR" if record.levelno >= logging.ERROR else record.levelname
        moment = time.strftime("%Y%m%d %H:%M:%S", time.localtime(record.created))
        return f"WSREP_SST: [{level}] {one_line(text)} ({moment}.{int(record.msecs):03d})"
