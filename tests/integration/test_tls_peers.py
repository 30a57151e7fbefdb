"""Other people's TLS as the peer of `listen` and of `connect`: OpenSSL's own tools, socat and stunnel."""

from __future__ import annotations

import re
import socket
import subprocess
import threading
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest

from lab.ports import free_port
from lab.waiting import until
from pytunnel.tls.settings import TlsSettings
from tests.support.ends import NODE1, NODE2, Ends
from tests.support.plain import dial, digest, digest_after_end, is_refused, read_all, serving, some_data, talk
from tests.support.programs import needs
from tests.support.tunnels import LIMIT, Program, started

DATA = some_data(3_000_000)
# For OpenSSL's tools: some letters at the beginning of what they read are commands to them.
TEXT = DATA.hex().encode()[:3_000_000]

VERSIONS = pytest.mark.parametrize("version", ["1.2", "1.3"])


@dataclass(slots=True)
class Digests:
    """A server that answers with the digest of what came, and keeps it: not every client can wait for an answer."""

    kept: list[str] = field(default_factory=list)
    came: threading.Event = field(default_factory=threading.Event)

    def serve(self, connection: socket.socket) -> None:
        self.kept.append(digest(read_all(connection)))
        self.came.set()
        connection.sendall(self.kept[-1].encode())


@pytest.fixture(scope="module")
def ends(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Ends]:
    with ExitStack() as cleanup:
        yield Ends.make(tmp_path_factory.mktemp("ends"), cleanup)


@pytest.fixture(scope="module")
def listening(ends: Ends) -> Iterator[Program]:
    """A `listen` of node2 that leads to a server which answers with a digest."""
    with serving(digest_after_end) as port, ExitStack() as cleanup:
        yield replace(ends, cleanup=cleanup).listen(f"127.0.0.1:{port}")


def run(command: Sequence[str], data: bytes = b"") -> subprocess.CompletedProcess[bytes]:
    return subprocess.run(command, input=data, capture_output=True, timeout=LIMIT, check=False)


# OpenSSL's own tools.


def s_client(port: int, settings: TlsSettings, *options: str) -> list[str]:
    files = ["-cert", str(settings.certificate), "-CAfile", str(settings.ca), "-verify_return_error"]
    return ["openssl", "s_client", "-connect", f"127.0.0.1:{port}", "-verify_hostname", NODE2, *files, *options]


@needs("openssl")
@VERSIONS
def test_openssl_s_client_sends_to_listen(ends: Ends, version: str) -> None:
    digests = Digests()
    with serving(digests.serve) as port:
        listening = ends.listen(f"127.0.0.1:{port}")
        words = s_client(listening.port, ends.node1, "-quiet", "-no_ign_eof", f"-tls{version.replace('.', '_')}")
        sent = run(words, TEXT)
        assert sent.returncode == 0, sent.stderr
        assert digests.came.wait(LIMIT)
    assert digests.kept == [digest(TEXT)]
    listening.wait_for(rf"-> 127\.0\.0\.1:{port}.*(3000000 bytes out|broke the connection off)")


@needs("openssl")
@VERSIONS
def test_openssl_s_client_receives_from_listen(ends: Ends, version: str) -> None:
    def send(connection: socket.socket) -> None:
        connection.sendall(DATA)

    with serving(send) as port:
        listening = ends.listen(f"127.0.0.1:{port}")
        words = s_client(listening.port, ends.node1, "-quiet", f"-tls{version.replace('.', '_')}")
        with subprocess.Popen(
            words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
        ) as receiver:
            assert receiver.stdout is not None
            assert digest(receiver.stdout.read()) == digest(DATA)
            receiver.wait(LIMIT)


@needs("openssl")
def test_a_session_is_not_resumed(listening: Program, ends: Ends, tmp_path: Path) -> None:
    session = tmp_path / "session"
    for version in ("-tls1_2", "-tls1_3"):
        first = run(s_client(listening.port, ends.node1, version, "-sess_out", str(session)))
        assert re.search(rb"^New, TLSv1", first.stdout, re.MULTILINE), first.stdout
        if session.exists():
            again = run(s_client(listening.port, ends.node1, version, "-sess_in", str(session)))
            assert re.search(rb"^New, TLSv1", again.stdout, re.MULTILINE), again.stdout
            session.unlink()


@needs("openssl")
@VERSIONS
def test_connect_and_openssl_s_server_send_to_each_other(ends: Ends, tmp_path: Path, version: str) -> None:
    port = free_port("127.0.0.1")
    command = ["openssl", "s_server", "-quiet", "-naccept", "1", "-accept", f"127.0.0.1:{port}"]
    command += ["-cert", str(ends.node2.certificate), "-CAfile", str(ends.node2.ca), "-Verify", "1"]
    command += ["-verify_return_error", f"-tls{version.replace('.', '_')}"]
    with (
        (tmp_path / "received").open("wb") as received,
        subprocess.Popen(command, stdin=subprocess.PIPE, stdout=received, stderr=subprocess.DEVNULL) as server,
    ):
        try:
            assert server.stdin is not None
            connecting = ends.connect(f"127.0.0.1:{port}", "--sockopt", "retry=100,interval=0.05")
            with dial(connecting.port) as client:
                client.sendall(TEXT)
                server.stdin.write(TEXT[::-1])
                server.stdin.flush()
                answer = b""
                while len(answer) < len(TEXT):
                    answer += client.recv(65536)
                client.shutdown(socket.SHUT_WR)
                assert client.recv(1) == b""
            assert server.wait(LIMIT) == 0
        finally:
            server.kill()
    assert digest(answer) == digest(TEXT[::-1])
    assert digest((tmp_path / "received").read_bytes()) == digest(TEXT)


# socat.


@needs("socat")
@VERSIONS
def test_socat_connects_to_listen(listening: Program, ends: Ends, version: str) -> None:
    address = (
        f"OPENSSL:127.0.0.1:{listening.port},cert={ends.node1.certificate},cafile={ends.node1.ca},commonname={NODE2},"
        f"openssl-min-proto-version=TLS{version},openssl-max-proto-version=TLS{version}"
    )
    answer = run(["socat", "-t", str(LIMIT), "STDIO", address], DATA)
    assert answer.stdout.decode() == digest(DATA), answer.stderr


@needs("socat")
@VERSIONS
def test_connect_connects_to_socat(ends: Ends, version: str) -> None:
    address = (
        f"OPENSSL-LISTEN:0,bind=127.0.0.1,cert={ends.node2.certificate},cafile={ends.node2.ca},commonname={NODE1},"
        f"openssl-min-proto-version=TLS{version},openssl-max-proto-version=TLS{version}"
    )
    with (
        serving(digest_after_end) as port,
        started(["socat", "-d", "-d", "-t", str(LIMIT), address, f"TCP:127.0.0.1:{port}"]) as socat,
    ):
        place = socat.wait_for(r"listening on AF=2 (127\.0\.0\.1:\d+)")[1]
        assert talk(ends.connect(place).port, DATA).decode() == digest(DATA)
        assert socat.wait() == 0


# stunnel.


@contextmanager
def stunnel(folder: Path, settings: TlsSettings, target: str, *, client: bool) -> Iterator[int]:
    """A running stunnel that verifies its peer; the port that it accepts at."""
    port = free_port("127.0.0.1")
    lines = [
        "foreground = yes",
        "pid =",
        "syslog = no",
        f"client = {'yes' if client else 'no'}",
        "[tunnel]",
        f"accept = 127.0.0.1:{port}",
        f"connect = {target}",
        f"cert = {settings.certificate}",
        f"CAfile = {settings.ca}",
        "verifyPeer = yes",
    ]
    (folder / "stunnel.conf").write_text("\n".join(lines) + "\n")
    with started(["stunnel", str(folder / "stunnel.conf")]):
        until(lambda: not is_refused(port), LIMIT, "stunnel to listen")
        yield port


@needs("stunnel")
def test_stunnel_connects_to_listen(listening: Program, ends: Ends, tmp_path: Path) -> None:
    with stunnel(tmp_path, ends.node1, f"127.0.0.1:{listening.port}", client=True) as port:
        assert talk(port, DATA).decode() == digest(DATA)


@needs("stunnel")
def test_connect_connects_to_stunnel(ends: Ends, tmp_path: Path) -> None:
    with (
        serving(digest_after_end) as server,
        stunnel(tmp_path, ends.node2, f"127.0.0.1:{server}", client=False) as port,
    ):
        assert talk(ends.connect(f"127.0.0.1:{port}").port, DATA).decode() == digest(DATA)
