"""Hosts for database nodes on one machine: each with an address and a name of its own.

Where we may, a host is a network namespace: all of them hang on a bridge in a namespace of its own, so nothing of
the machine's own network is touched, and each has its own hosts file (`ip netns exec` puts /etc/netns/NAME/* over
/etc for the command it runs). Elsewhere hosts are 127.0.0.2, 127.0.0.3 ..., whose names are their addresses.
"""

from __future__ import annotations

import functools
import os
import secrets
import shutil
import signal
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from lab import LabError
from lab.waiting import comes_true

_NETNS_FILES = Path("/etc/netns")
_COMMAND_LIMIT = 20.0
_EXIT_LIMIT = 5.0


@dataclass(frozen=True, slots=True)
class Host:
    """One machine of the lab.

    `name` is what bind_address and certificates call it and resolves to `address` alone; `name6` resolves to
    `address6` alone. The last three are None where hosts are loopback addresses.
    """

    name: str
    address: str
    name6: str | None = None
    address6: str | None = None
    namespace: str | None = None

    def command(self, *words: str) -> list[str]:
        """The argument list that runs `words` on this host; the process started is `words` itself."""
        if self.namespace is None:
            return list(words)
        return ["ip", "netns", "exec", self.namespace, *words]


@contextmanager
def hosts(count: int) -> Iterator[tuple[Host, ...]]:
    """`count` hosts that reach each other, gone at the end together with every process left in them."""
    if can_make_namespaces():
        with _namespaces(count) as made:
            yield made
    else:
        addresses = [f"127.0.0.{number}" for number in range(2, count + 2)]
        yield tuple(Host(name=address, address=address) for address in addresses)


@functools.cache
def can_make_namespaces() -> bool:
    """Whether this process may make network namespaces: root outside of a confined container, as a rule."""
    if os.geteuid() != 0 or shutil.which("ip") is None:
        return False
    try:
        with _namespaces(1) as (probe,):
            _run(*probe.command("true"))
    except (LabError, OSError):
        return False
    return True


@contextmanager
def _namespaces(count: int) -> Iterator[tuple[Host, ...]]:
    run = f"pyt-{secrets.token_hex(3)}"
    planned = tuple(
        Host(
            name=f"node{number}.my.cluster",
            address=f"192.0.2.{number}",
            name6=f"node{number}.ip6.my.cluster",
            address6=f"2001:db8::{number:x}",
            namespace=f"{run}-{number}",
        )
        for number in range(1, count + 1)
    )
    bridge = f"{run}-bridge"
    with ExitStack() as cleanup:
        cleanup.callback(_remove_namespace, bridge)
        _run("ip", "netns", "add", bridge)
        _run("ip", "-n", bridge, "link", "add", "bridge", "type", "bridge")
        _run("ip", "-n", bridge, "link", "set", "bridge", "up")
        for host in planned:
            # The clean-up is on the stack before the thing exists: Ctrl-C may come between the two.
            cleanup.callback(_remove_namespace, str(host.namespace))
            _write_name_files(host, planned)
            _attach(host, bridge)
        yield planned


def _attach(host: Host, bridge: str) -> None:
    namespace = str(host.namespace)
    port = f"to-{namespace.rpartition('-')[2]}"
    _run("ip", "netns", "add", namespace)
    _run("ip", "-n", bridge, "link", "add", port, "type", "veth", "peer", "name", "eth0", "netns", namespace)
    _run("ip", "-n", bridge, "link", "set", port, "master", "bridge", "up")
    _run("ip", "-n", namespace, "link", "set", "lo", "up")
    _run("ip", "-n", namespace, "address", "add", f"{host.address}/24", "dev", "eth0")
    # Duplicate address detection would keep the address unusable for the first second or two.
    _run("ip", "-n", namespace, "address", "add", f"{host.address6}/64", "dev", "eth0", "nodad")
    _run("ip", "-n", namespace, "link", "set", "eth0", "up")


def _write_name_files(host: Host, all_hosts: tuple[Host, ...]) -> None:
    folder = _NETNS_FILES / str(host.namespace)
    _make_name_folder(folder)
    lines = ["127.0.0.1 localhost", "::1 localhost"]
    for other in all_hosts:
        short = other.name.partition(".")[0]
        lines += [f"{other.address} {other.name} {short}", f"{other.address6} {other.name6}"]
    (folder / "hosts").write_text("\n".join(lines) + "\n")
    # No name server is reachable from inside: asking one would cost seconds for each unknown name.
    (folder / "nsswitch.conf").write_text("passwd: files\ngroup: files\nhosts: files\n")


def _make_name_folder(folder: Path) -> None:
    while not folder.exists():
        with suppress(FileNotFoundError):  # another lab has just removed the directory above, empty for a moment
            folder.mkdir(parents=True)


def _remove_namespace(namespace: str) -> None:
    _end_processes(namespace)
    _run("ip", "netns", "delete", namespace, check=False)
    shutil.rmtree(_NETNS_FILES / namespace, ignore_errors=True)
    with suppress(OSError):
        _NETNS_FILES.rmdir()  # only ever succeeds when empty


def _end_processes(namespace: str) -> None:
    # A namespace lives on, nameless, as long as a process is in it.
    for process in _processes(namespace):
        with suppress(ProcessLookupError):
            os.kill(process, signal.SIGKILL)
    comes_true(lambda: not _processes(namespace), _EXIT_LIMIT)


def _processes(namespace: str) -> list[int]:
    return [int(word) for word in _run("ip", "netns", "pids", namespace, check=False).split()]


def _run(*words: str, check: bool = True) -> str:
    done = subprocess.run(words, capture_output=True, text=True, timeout=_COMMAND_LIMIT, check=False)
    if check and done.returncode != 0:
        raise LabError(f"`{' '.join(words)}` ended with {done.returncode}: {done.stderr.strip()}")
    return done.stdout
