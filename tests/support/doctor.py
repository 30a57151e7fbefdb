"""The files of one node for `pytunnel doctor`, and what the program says of them."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from lab.certificates import Identity, authority, bundle_pem, issued, write_secret
from lab.optionfile import option_file
from lab.ports import free_port
from pytunnel.certs.access import ourselves
from tests.support.credentials import OURSELVES

CHECKOUT = Path(__file__).parents[2]
HOST = "127.0.0.1"
CA = authority("Test Authority")
SECRET = "S3cret-Of-Nobody"  # noqa: S105 - looked for in the output


@dataclass(slots=True)
class Node:
    """One node's files: a healthy one, until a test changes `server` or `sst` or a file."""

    root: Path
    server: dict[str, str | None] = field(default_factory=dict)
    sst: dict[str, str | None] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for name in ("data", "bin", "tls"):
            (self.root / name).mkdir(mode=0o755)
        self.provider.touch()
        self.use(issued(CA, "node1.my.cluster", addresses=[HOST]))
        tls = {name: str(self.root / "tls" / name) for name in ("ca.crt", "node.crt", "node.key")}
        self.sst |= {"tca": tls["ca.crt"], "tcert": tls["node.crt"], "tkey": tls["node.key"]}
        self.server |= {
            "user": ourselves().name,
            "datadir": str(self.root / "data"),
            "pid-file": str(self.root / "pid"),
            "bind-address": HOST,
            "wsrep-on": "ON",
            "wsrep-provider": str(self.provider),
            "wsrep-cluster-address": f"gcomm://{HOST},127.0.0.2",
            "wsrep-sst-method": "rsync_tunnel",
            "wsrep-sst-auth": f"sst:{SECRET}",
            "wsrep-sst-receive-address": f"{HOST}:{free_port(HOST)}",
            "ssl-ca": tls["ca.crt"],
            "ssl-cert": tls["node.crt"],
            "ssl-key": tls["node.key"],
            "require-secure-transport": "ON",
            "wsrep-provider-options": f"socket.ssl_ca={tls['ca.crt']};socket.ssl_cert={tls['node.crt']};"
            f"socket.ssl_key={tls['node.key']}",
        }

    @property
    def provider(self) -> Path:
        return self.root / "libgalera_smm.so"

    @property
    def option_file(self) -> Path:
        return self.root / "my.cnf"

    @property
    def path(self) -> str:
        """A server's PATH that leads to this checkout's method and to the Python of these tests."""
        return f"{self.root / 'bin'}:{CHECKOUT}:{Path(sys.executable).parent}:/usr/sbin:/usr/bin:/sbin:/bin"

    def use(self, own: Identity, trusted: Sequence[Identity] = (CA,), key: Identity | None = None) -> None:
        """Write the certificate files anew."""
        write_secret(self.root / "tls" / "node.crt", own.certificate_pem(), OURSELVES)
        write_secret(self.root / "tls" / "node.key", (key or own).key_pem(), OURSELVES)
        write_secret(self.root / "tls" / "ca.crt", bundle_pem(trusted), OURSELVES)

    @contextmanager
    def running(self) -> Iterator[None]:
        """Play this node's server: a process of the server's name, PATH and pid file."""
        server = self.root / "bin" / "mariadbd"
        server.symlink_to(shutil.which("sleep") or "/bin/sleep")
        with subprocess.Popen([str(server), "300"], env={"PATH": self.path}) as process:
            (self.root / "pid").write_text(f"{process.pid}\n")
            try:
                yield
            finally:
                process.kill()

    def write(self) -> None:
        """Write the option file as it is now."""
        self.option_file.write_text(option_file({"mysqld": self.server, "sst": self.sst}))
        self.option_file.chmod(0o644)


@dataclass(frozen=True, slots=True)
class Row:
    """One object of the JSON report."""

    check: str
    status: str
    text: str
    advice: str


@dataclass(frozen=True, slots=True)
class Report:
    """What the program said."""

    code: int
    rows: tuple[Row, ...]

    def bad(self) -> list[tuple[str, str]]:
        """Check and status of all rows that are not ok."""
        return [(row.check, row.status) for row in self.rows if row.status != "ok"]

    def of(self, check: str) -> Row:
        """The worst row of a check."""
        found = [row for row in self.rows if row.check == check]
        assert found, f"no row {check!r} among {sorted({row.check for row in self.rows})}"
        return max(found, key=lambda row: ["ok", "warning", "fault"].index(row.status))


Doctor = Callable[..., Report]
"""Runs the program with these arguments."""
