"""The SST method's entry: what the server passed in, an exit code that it understands out.

The server runs this as `wsrep_sst_rsync_tunnel --role joiner|donor …`, with its own user and the datadir as working
directory. Standard output belongs to the protocol, standard error is the server's error log.
"""

from __future__ import annotations

import logging
import os
import signal
import sys
import traceback
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from pathlib import Path

import trio

from pytunnel import __version__
from pytunnel.errors import PytunnelError
from pytunnel.sst import server
from pytunnel.sst.errors import ExitCode, SstError, known, refused
from pytunnel.sst.log import ServerFormatter
from pytunnel.sst.method import Method, method_of
from pytunnel.sst.request import Request, Role, parse_request
from pytunnel.system import logs
from pytunnel.transport.errors import TransportError

log = logging.getLogger(__name__)

_HELP = """\
usage: wsrep_sst_{method} --role joiner|donor --address HOST[:PORT][/MODULE] --datadir DIR [OPTION VALUE]...

The database server runs this program when wsrep_sst_method={method}; there is no need to run it by hand.
It is configured in the server's option files:

    [mysqld]
    wsrep_sst_method = {method}
    [sst]
    tca   = /etc/my.cnf.d/bundle.crt
    tcert = /etc/my.cnf.d/node1.pem
"""


def main() -> None:
    """Entry point of `wsrep_sst_rsync_tunnel` and `wsrep_sst_secure_rsync`; the program's name is the method."""
    server.close_inherited_descriptors()
    sys.exit(run(sys.argv[1:], method_of(Path(sys.argv[0]).name)))


def run(argv: Sequence[str], method: Method) -> int:
    """Do one role's job; returns the exit code, 0 or errno-like (pytunnel.sst.errors)."""
    if argv in (["--help"], ["-h"]):
        print(_HELP.format(method=method.name), end="")
        return 0
    if list(argv) == ["--version"]:
        print(f"wsrep_sst_{method.name} {__version__}")
        return 0
    os.umask(0o027)
    logs.use_formatter(ServerFormatter())
    try:
        request = parse_request(argv, os.environ)
        trio.run(_serve, request, method)
    except Exception as error:  # the last place: every failure ends as one line and an exit code
        return _report(error)
    return 0


async def _serve(request: Request, method: Method) -> None:
    """Run the role; a signal or the server's end cancels it, and its clean-up runs."""
    from pytunnel.sst import setup  # after the arguments are known to be right

    log.info("pytunnel %s as %s for %s", __version__, request.role.value, request.address)
    with trio.open_signal_receiver(signal.SIGTERM, signal.SIGINT, signal.SIGHUP) as signals:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(_fail_on, signals)
            nursery.start_soon(server.watch, request.parent or server.find_server())
            await _role(request)(await setup.prepare(request, method))
            nursery.cancel_scope.cancel()


def _role(request: Request) -> Callable[..., Awaitable[None]]:
    """Each role's code is loaded only where it is needed: it is start-up time of a node that is down."""
    if request.role is Role.JOINER:
        from pytunnel.sst.joiner import join

        return join
    from pytunnel.sst.donor import donate

    return donate


async def _fail_on(signals: AsyncIterator[int]) -> None:
    async for number in signals:
        raise SstError(f"ended by {signal.Signals(number).name}", exit_code=ExitCode.BROKEN_OFF)


def _report(error: Exception) -> int:
    """Write the failure and what led to it as one line, and give its exit code."""
    reasons = list(known(error, PytunnelError))
    if not reasons:
        return _report_unforeseen(error)
    log.error("%s", "; before that: ".join(dict.fromkeys(map(str, reasons))))
    first = reasons[0]
    if isinstance(first, TransportError) and first.port_taken:
        return int(ExitCode.PORT_TAKEN)
    return first.exit_code if first.exit_code > 1 else int(ExitCode.BROKEN_OFF)


def _report_unforeseen(error: Exception) -> int:
    """What the system refused is named with its file; anything else is a fault of ours, told with its place."""
    refusal = next(known(error, OSError), None)
    if refusal is not None:
        log.error("the transfer failed: %s", refused(refusal))
        return int(ExitCode.MISSING if isinstance(refusal, FileNotFoundError) else ExitCode.OTHER)
    first = next(known(error, Exception), error)
    place = traceback.extract_tb(first.__traceback__)[-1]
    text = "a fault of pytunnel's own; please report it: %s: %s (%s:%s)"
    log.error(text, type(first).__name__, first, place.filename, place.lineno)
    return int(ExitCode.OTHER)
