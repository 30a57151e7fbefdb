"""Certificates are read again at SIGHUP and when their files change; whatever the new ones are, nobody is cut off."""

from __future__ import annotations

import re
import shutil
import signal
import socket
import ssl
import subprocess
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from itertools import count
from pathlib import Path
from tempfile import TemporaryDirectory
from urllib.request import urlopen

import pytest

from lab.certificates import Identity, authority, bundle_pem, expired, issued, self_signed
from lab.waiting import comes_true
from pytunnel.confinement.landlock import kernel_abi
from tests.support.ends import NODE1, NODE2
from tests.support.plain import dial, digest, echo, read_all, serving, some_data, talk
from tests.support.programs import AS_ANYONE, can_be_anyone, needs
from tests.support.tunnels import LIMIT, Program, pytunnel, ran, started

CA = authority("Test Authority")


class Volume:
    """A directory of files as Kubernetes mounts a secret: each is a link through `..data`, which is swapped at once."""

    def __init__(self, folder: Path, own: Identity, *trusted: Identity) -> None:
        self.folder = folder
        self._generations = count(1)
        folder.mkdir()
        self.swap(own, *trusted)
        for name in ("tls.crt", "tls.key", "ca.crt"):
            (folder / name).symlink_to(f"..data/{name}")

    @property
    def words(self) -> list[str]:
        """The options that name the files."""
        return [f"--cert={self.folder}/tls.crt", f"--key={self.folder}/tls.key", f"--ca={self.folder}/ca.crt"]

    def swap(self, own: Identity, *trusted: Identity, key: Identity | None = None) -> None:
        """Let the files be these, all at once, and remove those before."""
        new = self.folder / f"..{next(self._generations)}"
        new.mkdir()
        (new / "tls.crt").write_bytes(own.certificate_pem())
        (new / "tls.key").write_bytes((key or own).key_pem())
        (new / "tls.key").chmod(0o600)
        (new / "ca.crt").write_bytes(bundle_pem(trusted or [CA]))
        before = (self.folder / "..data").resolve()
        (self.folder / "..tmp").symlink_to(new.name)
        (self.folder / "..tmp").rename(self.folder / "..data")
        if before.name != "..data":
            shutil.rmtree(before)


@pytest.fixture
def volume(tmp_path: Path) -> Volume:
    return Volume(tmp_path / "node2", issued(CA, NODE2))


@contextmanager
def listening(volume: Volume, target: str = "exec:cat", *options: str) -> Iterator[Program]:
    """A `listen` with the volume's files."""
    with started(pytunnel("listen", *volume.words, *options, "127.0.0.1:0", target)) as program:
        program.wait_for("accepting ")
        yield program


def presented(program: Program, client: Volume) -> bytes:
    """The certificate that a listening tunnel shows to a new connection."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    context.load_cert_chain(client.folder / "tls.crt", client.folder / "tls.key")
    with dial(program.port) as plain, context.wrap_socket(plain) as secured:
        return secured.getpeercert(binary_form=True) or b""


def pem(certificate: bytes) -> str:
    return ssl.DER_cert_to_PEM_cert(certificate)


@pytest.fixture
def client(tmp_path: Path) -> Volume:
    return Volume(tmp_path / "node1", issued(CA, NODE1))


def test_a_swapped_volume_is_taken_without_being_asked(volume: Volume, client: Volume) -> None:
    renewed = issued(CA, NODE2)
    with listening(volume) as program:
        volume.swap(renewed)
        program.wait_for(rf"INFO certificates renewed: new connections use /CN={NODE2}, valid until")
        assert pem(presented(program, client)).encode() == renewed.certificate_pem()


def has_renewed(program: Program, times: int) -> bool:
    return len(matching(program, "certificates renewed")) >= times


def test_every_swap_is_noticed_not_only_the_first(volume: Volume, client: Volume) -> None:
    with listening(volume) as program:
        for number in range(1, 4):
            renewed = issued(CA, NODE2)
            volume.swap(renewed)
            assert comes_true(partial(has_renewed, program, number), LIMIT)
            assert pem(presented(program, client)).encode() == renewed.certificate_pem()


def test_sighup_reads_the_files_again(volume: Volume, client: Volume) -> None:
    with listening(volume) as program:
        program.signal(signal.SIGHUP)
        program.wait_for("INFO SIGHUP received: reading the certificates again")
        program.wait_for("INFO certificates renewed")
        assert talk_through(program, client, b"x") == b"x"


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda volume: volume.swap(expired(CA, NODE2)), "expired on"),
        (lambda volume: volume.swap(issued(CA, NODE2), key=issued(CA, NODE2)), "does not belong to the certificate"),
        (lambda volume: (volume.folder / "..data" / "tls.crt").write_text("garbage"), "holds no PEM text"),
        (lambda volume: (volume.folder / "..data" / "tls.key").unlink(), "does not exist"),
        (lambda volume: (volume.folder / "..data" / "ca.crt").write_text(""), "holds no PEM text"),
    ],
    ids=["expired", "another key", "broken", "missing", "no CA"],
)
def test_files_that_cannot_be_used_are_refused_and_the_old_ones_stay(
    volume: Volume, client: Volume, change: Callable[[Volume], None], said: str
) -> None:
    with listening(volume, "exec:cat", "--status", "127.0.0.1:0") as program:
        before = presented(program, client)
        change(volume)
        program.wait_for(rf"ERROR the certificates are NOT renewed, the old ones stay in use: .*{said}")
        assert presented(program, client) == before
        assert talk_through(program, client, b"x") == b"x"
        assert reloads(program) == {"ok": 0, "failed": 1}
        volume.swap(issued(CA, NODE2))
        program.wait_for("INFO certificates renewed")
        assert presented(program, client) != before
        assert reloads(program) == {"ok": 1, "failed": 1}


@needs("setpriv")
@pytest.mark.skipif(not can_be_anyone(), reason="needs root, and a Python that other users may run")
def test_a_directory_that_is_closed_while_the_tunnel_runs_ends_nothing(tmp_path: Path) -> None:
    own = self_signed(NODE2)
    with TemporaryDirectory() as opened:
        place = Path(opened)
        place.chmod(0o755)
        (place / "ca").mkdir()
        for name, content in (("node.pem", own.combined_pem()), ("ca/bundle.crt", own.certificate_pem())):
            (place / name).write_bytes(content)
            (place / name).chmod(0o644)
        words = [f"--cert={place}/node.pem", f"--ca={place}/ca/bundle.crt", "127.0.0.1:0", "exec:cat"]
        with started([*AS_ANYONE, *pytunnel("listen", *words)]) as program:
            program.wait_for("accepting ")
            (place / "ca").chmod(0o700)
            program.wait_for("ERROR the certificates are NOT renewed, .*bundle.crt can't be read: Permission denied")
            (place / "ca").chmod(0o755)
            program.wait_for("INFO certificates renewed")
            program.signal(signal.SIGTERM)
            assert program.wait() == 0
        (place / "ca").chmod(0o700)
        refused = ran([*AS_ANYONE, *pytunnel("listen", *words)])
        assert (refused.returncode, "Traceback" in refused.stderr) == (22, False)


def write_files(place: Path, own: Identity) -> None:
    place.mkdir(parents=True)
    (place / "node.pem").touch(0o600)
    (place / "node.pem").write_bytes(own.combined_pem())
    (place / "bundle.crt").write_bytes(own.certificate_pem())


@contextmanager
def confined(place: Path) -> Iterator[Program]:
    """A `listen` with the files of `write_files`; it starts no programs, so Landlock is in force where there is any."""
    words = [f"--cert={place}/node.pem", f"--ca={place}/bundle.crt", "127.0.0.1:0", "127.0.0.1:9"]
    with started(pytunnel("listen", *words)) as program:
        program.wait_for("accepting ")
        yield program


def test_a_link_to_a_directory_that_is_swapped_is_followed(tmp_path: Path) -> None:
    tls = tmp_path / "tls"
    write_files(tls / "v1", self_signed(NODE2))
    (tls / "current").symlink_to("v1")
    with confined(tls / "current") as program:
        write_files(tls / "v2", self_signed(NODE2))
        (tls / "new").symlink_to("v2")
        (tls / "new").rename(tls / "current")
        program.wait_for("INFO certificates renewed")


def test_a_directory_that_another_takes_the_place_of_is_denied_by_landlock_in_words(tmp_path: Path) -> None:
    write_files(tmp_path / "tls", self_signed(NODE2))
    with confined(tmp_path / "tls") as program:
        write_files(tmp_path / "new", self_signed(NODE2))
        (tmp_path / "tls").rename(tmp_path / "old")
        (tmp_path / "new").rename(tmp_path / "tls")
        program.wait_for("ERROR the certificates are NOT renewed, .* its user may read it, so Landlock denies it")


@pytest.mark.skipif(kernel_abi() < 1, reason="this kernel has no Landlock")
def test_a_file_that_landlock_denies_is_called_that(tmp_path: Path) -> None:
    write_files(tmp_path / "deep" / "tls", self_signed(NODE2))
    with confined(tmp_path / "deep" / "tls") as program:
        write_files(tmp_path / "elsewhere", self_signed(NODE2))
        link = tmp_path / "deep" / "tls" / "new"
        link.symlink_to(tmp_path / "elsewhere" / "node.pem")
        link.rename(tmp_path / "deep" / "tls" / "node.pem")
        program.wait_for("ERROR the certificates are NOT renewed, .* its user may read it, so Landlock denies it")


def test_a_peer_of_an_added_ca_is_let_in_and_one_of_a_removed_ca_no_more(volume: Volume, tmp_path: Path) -> None:
    other = authority("Another Authority")
    old, new = Volume(tmp_path / "old", issued(CA, NODE1)), Volume(tmp_path / "new", issued(other, NODE1))
    with listening(volume) as program:
        assert talk_through(program, old, b"x") == b"x"
        volume.swap(issued(CA, NODE2), other)
        program.wait_for("INFO certificates renewed")
        assert talk_through(program, new, b"y") == b"y"
        with pytest.raises(ConnectionResetError):
            talk_through(program, old, b"z")


def test_open_connections_live_on(volume: Volume, tmp_path: Path) -> None:
    one = Volume(tmp_path / "node1", issued(CA, NODE1))
    with serving(echo) as port, listening(volume, f"127.0.0.1:{port}") as program:
        words = pytunnel("connect", *one.words, "--peer-name", NODE2, "127.0.0.1:0", f"127.0.0.1:{program.port}")
        with started(words) as connecting, dial(connecting.port) as connection:
            connection.sendall(b"before")
            assert connection.recv(6) == b"before"
            for each in (volume, one):  # from now on, neither end would trust the other's old certificate
                each.swap(issued(CA, NODE2 if each is volume else NODE1), authority("Nobody"))
            for ends in (program, connecting):
                ends.wait_for("INFO certificates renewed")
            connection.sendall(b"after")
            connection.shutdown(socket.SHUT_WR)
            assert read_all(connection) == b"after"


def test_not_one_connection_is_lost_while_files_are_swapped_again_and_again(volume: Volume, client: Volume) -> None:
    connections, swaps, at_once = 300, 30, 8
    data = some_data(20_000)
    with serving(echo) as port, listening(volume, f"127.0.0.1:{port}") as program:
        words = pytunnel("connect", *client.words, "--peer-name", NODE2, "127.0.0.1:0", f"127.0.0.1:{program.port}")
        with started(words) as connecting, ThreadPoolExecutor(at_once) as pool:
            entrance = connecting.port
            over = threading.Event()

            def swap_until_over() -> int:
                for number in count(1):
                    (volume if number % 2 else client).swap(issued(CA, NODE2 if number % 2 else NODE1))
                    for ends in (program, connecting):
                        ends.signal(signal.SIGHUP)
                    if over.wait(0.02) and number >= swaps:
                        return number
                raise AssertionError

            swapping = threading.Thread(target=swap_until_over, daemon=True)
            swapping.start()
            answers = list(pool.map(lambda _: digest(talk(entrance, data)), range(connections)))
            over.set()
            swapping.join(LIMIT)
            assert answers == connections * [digest(data)]
            ended = rf"-> 127.* ended: {len(data)} bytes out, {len(data)} in"
            assert comes_true(lambda: len(matching(connecting, ended)) == connections, LIMIT)
            for ends in (program, connecting):
                assert len(matching(ends, "certificates renewed")) > 10
                assert not matching(ends, "WARNING|ERROR")


def test_each_worker_takes_a_swapped_volume(volume: Volume, client: Volume) -> None:
    renewed = issued(CA, NODE2)
    with listening(volume, "exec:cat", "--workers", "2") as program:
        program.wait_for("2 workers share the connections")
        volume.swap(renewed)
        assert comes_true(lambda: len(matching(program, "INFO .*certificates renewed")) == 2, LIMIT)
        shown = {presented(program, client) for _ in range(8)}
        assert {pem(each).encode() for each in shown} == {renewed.certificate_pem()}


def test_a_gateway_dials_with_the_renewed_certificate(volume: Volume, tmp_path: Path) -> None:
    other = authority("Another Authority")
    both = Volume(tmp_path / "server", issued(CA, "localhost"), other)
    gateway_end = Volume(tmp_path / "gateway", issued(CA, NODE1))
    with listening(both) as program:
        options = ["--http-connect", "127.0.0.1:0", "--allow-target", f"localhost:{program.port}"]
        with started(pytunnel("connect", *gateway_end.words, *options)) as gateway:
            assert not reaches(gateway, program.port)
            gateway_end.swap(issued(other, NODE1), CA)
            gateway.wait_for("INFO certificates renewed")
            assert reaches(gateway, program.port)


def reaches(gateway: Program, port: int) -> bool:
    """Whether an echo behind the port is reached through a gateway."""
    with dial(gateway.port) as connection:
        try:
            connection.sendall(f"CONNECT localhost:{port} HTTP/1.0\r\n\r\nx".encode())
            connection.shutdown(socket.SHUT_WR)
            return read_all(connection).endswith(b"\r\n\r\nx")
        except ConnectionResetError:
            return False


def test_a_tunnel_of_one_connection_ends_at_sighup_as_any_program_does(volume: Volume) -> None:
    with started(pytunnel("listen", *volume.words, "stdio:", "exec:cat"), stdin=subprocess.PIPE) as program:
        program.wait_for("accepting ")
        program.signal(signal.SIGHUP)
        assert program.wait() == -signal.SIGHUP


def test_a_self_signed_combined_file_that_is_written_anew_is_taken(tmp_path: Path) -> None:
    own, renewed = self_signed(NODE2), self_signed(NODE2)
    file, bundle = tmp_path / "node.pem", tmp_path / "bundle.crt"
    file.touch(0o600)
    file.write_bytes(own.combined_pem())
    bundle.write_bytes(bundle_pem([own, renewed]))
    words = [f"--cert={file}", f"--ca={bundle}", "127.0.0.1:0", "exec:cat"]
    with started(pytunnel("listen", *words)) as program:
        program.wait_for("accepting ")
        file.write_bytes(renewed.combined_pem())
        program.wait_for("INFO certificates renewed")
        assert not matching(program, "ERROR")


def matching(program: Program, pattern: str) -> list[str]:
    return [line for line in list(program.lines) if re.search(pattern, line)]


def reloads(program: Program) -> dict[str, int]:
    """What the metrics count."""
    place = program.wait_for(r"status at (127\S+)")[1]
    with urlopen(f"http://{place}/metrics", timeout=LIMIT) as answer:
        text = answer.read().decode()
    found = re.findall(r'pytunnel_certificate_reloads_total\{result="(\w+)",.*\} (\d+)', text)
    return {result: int(float(value)) for result, value in found}


def talk_through(program: Program, end: Volume, data: bytes) -> bytes:
    """Send data through a `connect` of its own with the files of `end`."""
    words = pytunnel("connect", *end.words, "--peer-name", NODE2, "127.0.0.1:0", f"127.0.0.1:{program.port}")
    with started(words) as connecting:
        return talk(connecting.port, data)
