"""`make demo`: one real MariaDB Galera node joins another through the tunnel, before your eyes.

Run as `python -m lab.demo`. It leaves nothing behind, neither at Ctrl-C; the exit status is 1 when something failed.
"""

from __future__ import annotations

import os
import re
import secrets
import signal
import sys
import time
from collections.abc import Sequence
from contextlib import ExitStack
from types import FrameType

from lab import LabError
from lab.certificates import Identity, self_signed
from lab.compare import checksums, differences, replicates
from lab.credentials import combined_files
from lab.hosts import Host, hosts
from lab.leftovers import leftovers
from lab.mariadb import Node, NodeSettings
from lab.sample import fill, procedure_runs
from lab.site import Site, open_site
from lab.sstlog import texts
from pytunnel.errors import PytunnelError

MEGABYTES = 40.0
_INTERRUPTED = 130
_ENDING_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
# The SST's closing line tells of TLS: bytes, seconds and rate; version and cipher; the peer's name.
_CLOSING = re.compile(r"^(?P<amount>.*); (?P<security>TLS\S+ \S+) with (?P<peer>\S+)$")


def main() -> int:
    """Show it; the exit status."""
    os.umask(0o022)  # the servers' user must read what we write
    for number in _ENDING_SIGNALS:
        signal.signal(number, _interrupt)
    try:
        run()
    except KeyboardInterrupt:
        _say("\nStopped. Nothing is left behind.")
        return _INTERRUPTED
    except PytunnelError as error:
        print(f"demo: {error}", file=sys.stderr)
        return 1
    _say("Both nodes are stopped; nothing is left behind.")
    return 0


def run() -> None:
    """Let a node join. Raises PytunnelError when it doesn't, or isn't equal to its donor afterwards."""
    with ExitStack() as cleanup:
        site = cleanup.enter_context(open_site())
        network = cleanup.enter_context(hosts(2))
        donor, joiner = (cleanup.enter_context(node) for node in _nodes(site, network))
        cleanup.callback(_ignore_interruptions)  # the first thing of the clean-up
        _start_donor(donor)
        _let_join(joiner, donor)
        _compare(donor, joiner)


def _nodes(site: Site, network: Sequence[Host]) -> list[Node]:
    identities = [self_signed(host.name) for host in network]
    cluster = f"demo{secrets.token_hex(2)}"
    _say("Two throw-away certificates, self-signed; each node trusts both:")
    for host, own in zip(network, identities, strict=True):
        _say(f"    {host.name} at {host.address}: {own.certificate.subject.rfc4514_string()}")
    return [
        Node(site, cluster, f"node{number}", _settings(site, f"{cluster}-tls{number}", host, own, identities))
        for number, (host, own) in enumerate(zip(network, identities, strict=True), start=1)
    ]


def _settings(site: Site, folder: str, host: Host, own: Identity, trusted: Sequence[Identity]) -> NodeSettings:
    options = combined_files(site.directory / folder, site.account, own, trusted)
    return NodeSettings(host=host, sst=options)


def _start_donor(donor: Node) -> None:
    donor.bootstrap()
    version = donor.sql.value("SELECT VERSION()")
    fill(donor, MEGABYTES)
    _say(f"{donor.host.name} runs MariaDB {version} with about {MEGABYTES:.0f} MB of data.")


def _let_join(joiner: Node, donor: Node) -> None:
    _say(f"{joiner.host.name} joins it by wsrep_sst_method={joiner.site.method} ...")
    started = time.monotonic()
    joiner.start_joining(donor)
    try:
        joiner.wait_until_synced()
    except LabError as error:
        raise LabError(_why_not(donor, joiner)) from error
    _say(f"    joined after {time.monotonic() - started:.1f} seconds")
    for node in (donor, joiner):
        for line in filter(None, map(_CLOSING.match, texts(node.error_log(), "INFO"))):
            _say(f"    {node.host.name} {line['amount']}")
            _say(f"        peer {line['peer']}, {line['security']}")


def _why_not(donor: Node, joiner: Node) -> str:
    """The SST's own error, which names the reason; without one, the server's first."""
    for node in (joiner, donor):
        for text in texts(node.error_log(), "ERROR"):
            return f"{joiner.host.name} didn't join; {node.host.name} says: {text}"
    lines = (line.partition("[ERROR] ")[2] for line in joiner.error_log().splitlines())
    said = next(filter(None, lines), "nothing")
    return f"{joiner.host.name} didn't join; its server says: {said}"


def _compare(donor: Node, joiner: Node) -> None:
    differing = differences(donor, joiner)
    if differing:
        names = ", ".join(difference.table for difference in differing)
        raise LabError(f"the joiner's data isn't the donor's: these tables differ: {names}")
    _say(f"Checksums of {len(checksums(joiner))} tables are equal on both nodes.")
    if not (procedure_runs(joiner) and replicates(donor, joiner) and replicates(joiner, donor)):
        raise LabError("the joiner has the donor's data, but a write on one node isn't seen on the other")
    _say("A row written on either node is read on the other, and a stored procedure runs.")
    remains = leftovers(donor, joiner)
    if remains:
        raise LabError(f"the transfer left something behind: {'; '.join(remains)}")


def _interrupt(number: int, frame: FrameType | None) -> None:
    # Once is enough: what follows is the clean-up, which mustn't be interrupted.
    _ignore_interruptions()
    raise KeyboardInterrupt


def _ignore_interruptions() -> None:
    for number in _ENDING_SIGNALS:
        signal.signal(number, signal.SIG_IGN)


def _say(text: str) -> None:
    print(text, flush=True)


if __name__ == "__main__":
    sys.exit(main())
