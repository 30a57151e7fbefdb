"""Process 1 of a container: starts the program as its child, passes signals on, and takes in orphans.

The kernel gives process 1 every process whose parent has ended, and nobody else can clear them away; and for process 1
a signal that it doesn't handle does nothing. Doing this in a process of its own keeps it apart from the children that
the program waits for itself.
"""

from __future__ import annotations

import os
import signal
from contextlib import suppress
from pathlib import Path
from typing import NoReturn

_OWN_FAULTS = {  # these are about the process itself, and can't be passed on, or not be waited for
    *(signal.SIGSEGV, signal.SIGFPE, signal.SIGILL, signal.SIGBUS, signal.SIGTRAP, signal.SIGABRT, signal.SIGSYS),
    *(signal.SIGKILL, signal.SIGSTOP),
}
_STANDARD_ERROR = 2


def is_first_process() -> bool:
    """Whether this is process 1."""
    return os.getpid() == 1


def go_on_as_child() -> None:
    """Return in a new child, while this process stays what process 1 has to be, and ends as the child does.

    Nothing may run in other threads yet.
    """
    waited_for = signal.valid_signals() - _OWN_FAULTS
    before = signal.pthread_sigmask(signal.SIG_BLOCK, waited_for)
    child = os.fork()
    if child:
        _close_all()
        _look_after(child, waited_for)
    _take_over_variables()
    _take_terminal()
    signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _take_over_variables() -> None:
    """What was meant for process 1 is meant for this one: passed sockets, the watchdog (sd_listen_fds(3))."""
    for name in ("LISTEN_PID", "WATCHDOG_PID"):
        if os.environ.get(name) == "1":
            os.environ[name] = str(os.getpid())


def _take_terminal() -> None:
    """Be the terminal's foreground group, alone: Ctrl-C there must not come here twice."""
    os.setpgid(0, 0)
    with suppress(OSError):  # there is no terminal
        os.tcsetpgrp(0, os.getpgrp())


def _close_all() -> None:
    """Keep nothing open but the log: who reads from our end of a pipe, or dials our port, must see when it closes."""
    # Not every number up to the limit: that may be a thousand million, and old kernels can't close them with one call.
    for descriptor in [int(entry.name) for entry in Path("/proc/self/fd").iterdir()]:
        if descriptor != _STANDARD_ERROR:
            with suppress(OSError):  # that of the listing itself
                os.close(descriptor)


def _look_after(child: int, waited_for: set[signal.Signals]) -> NoReturn:
    while True:
        number = signal.sigwait(waited_for)
        if number != signal.SIGCHLD:
            with suppress(ProcessLookupError):
                os.kill(child, number)
            continue
        status = _reap(child)
        if status is not None:
            code = os.waitstatus_to_exitcode(status)
            os._exit(code if code >= 0 else 128 - code)


def _reap(child: int) -> int | None:
    """Take in all who have ended; the status of `child` if it is among them."""
    found = None
    with suppress(ChildProcessError):
        while (ended := os.waitpid(-1, os.WNOHANG))[0]:
            if ended[0] == child:
                found = ended[1]
    return found
