"""Is the port of state transfers free? Found out by listening there for a moment, as a joiner does."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from pytunnel.doctor.files import is_there
from pytunnel.doctor.findings import Finding, fault, ok, warning
from pytunnel.doctor.server import RunningServer
from pytunnel.sst.address import Address
from pytunnel.sst.workplace import IN_PROGRESS
from pytunnel.transport import tcp
from pytunnel.transport.endpoint import TcpEndpoint
from pytunnel.transport.errors import TransportError
from pytunnel.transport.options import SocketOptions

PORT = "port"


@dataclass(frozen=True, slots=True)
class Attempt:
    """How listening at one place ended; `error` is None where it went well."""

    place: str
    error: TransportError | None = None


async def examine_port(
    address: Address, sockets: SocketOptions, datadir: Path, running: RunningServer | None
) -> Finding:
    """Listen at the announced address, and where it is not this host's (behind NAT) at all addresses."""
    attempt = await _listen(TcpEndpoint(address.host, address.port), sockets)
    if attempt.error is not None and not attempt.error.port_taken:
        everywhere = await _listen(TcpEndpoint("", address.port), sockets)
        return check_everywhere(attempt, everywhere)
    return check_port(attempt, transferring=is_there(datadir / IN_PROGRESS, unknown=False), running=running)


def check_port(attempt: Attempt, *, transferring: bool, running: RunningServer | None) -> Finding:
    """A taken port is no fault while a transfer has it."""
    if attempt.error is None:
        return ok(PORT, f"{attempt.place} is free")
    if transferring:
        return ok(PORT, f"{attempt.place} is taken, by the state transfer that is running")
    if running is not None:
        return warning(
            PORT,
            f"{attempt.place} is taken; the server runs (process {running.pid}), so this may be a transfer of its own",
            "if it is none, see `ss -ltnp` for who it is, and end it or announce another port",
        )
    advice = "see `ss -ltnp` for who it is, and end it, or announce another port (wsrep_sst_receive_address)"
    return fault(PORT, f"{attempt.place} is taken by another program", advice)


def check_everywhere(announced: Attempt, everywhere: Attempt) -> Finding:
    """The announced address is not this host's."""
    if everywhere.error is not None:
        return check_port(everywhere, transferring=False, running=None)
    return warning(
        PORT,
        f"{announced.place} is no address of this host; a joiner listens on all addresses instead",
        "nothing, if the address is translated (NAT) to this host; else correct it",
    )


async def _listen(place: TcpEndpoint, sockets: SocketOptions) -> Attempt:
    try:
        listeners = await tcp.open_listeners(place, sockets)
    except TransportError as error:
        return Attempt(str(place), error)
    for listener in listeners:
        await listener.aclose()
    return Attempt(str(place))
