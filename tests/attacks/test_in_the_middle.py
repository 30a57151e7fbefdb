"""What somebody between two nodes can try: to change bytes, cut them off, say them again, or show his certificate."""

from __future__ import annotations

import socket
import threading
from contextlib import suppress
from pathlib import Path

import pytest
from OpenSSL import SSL

from lab.certificates import Identity, authority, issued, self_signed
from lab.waiting import until
from tests.support.credentials import settings_of
from tests.support.ends import NODE1, NODE2, Ends
from tests.support.meddling import APPLICATION_DATA, in_the_middle
from tests.support.plain import dial, read_all, serving, talk
from tests.support.tunnels import tunnel

CA = authority("Authority")
SERVER, CLIENT = issued(CA, NODE2), issued(CA, NODE1)


def careless(own: Identity) -> SSL.Context:
    """An attacker's end with none of our options."""
    context = SSL.Context(SSL.TLS_METHOD)
    context.use_certificate(own.certificate)
    context.use_privatekey(own.key)
    return context


# Bytes that somebody in the middle changes.


def through(
    meddle: object, ends: Ends, data: bytes, got: bytearray | None = None
) -> tuple[bytes, BaseException | None, bytes]:
    """What a server got, what the client saw at the end, and what was sent, where somebody was in the middle.

    `got` grows with what the server gets.
    """
    got = bytearray() if got is None else got

    def keep(connection: socket.socket) -> None:
        with suppress(ConnectionResetError):
            while piece := connection.recv(65536):
                got.extend(piece)
            got.extend(b"<end of file>")

    with serving(keep) as server:
        listening = ends.listen(f"127.0.0.1:{server}")
        assert callable(meddle)
        with in_the_middle(listening.place, meddle) as (port, _):
            connecting = ends.connect(f"127.0.0.1:{port}")
            failure: BaseException | None = None
            with dial(connecting.port) as client:
                try:
                    client.sendall(data)
                    client.shutdown(socket.SHUT_WR)
                    client.recv(1)
                except OSError as error:
                    failure = error
            listening.wait_for("WARNING")
    return bytes(got), failure, data


def of_the_data(number: int, record: bytes) -> bool:
    """Whether a record carries data; by then the handshake's are over, whatever its version."""
    return record[0] == APPLICATION_DATA and number > 8


DATA = bytes(range(256)) * 4096
CLOSE_NOTIFY = 5 + 2 + 1 + 16
"""Bytes of its record in TLS 1.3: header, alert, type, tag. One of data may be nearly as small."""


@pytest.mark.parametrize("how", ["doubled", "dropped", "swapped", "altered", "cut off", "forged"])
def test_records_that_are_meddled_with_are_an_error_at_both_ends(ends: Ends, how: str) -> None:
    held: list[bytes] = []
    done: list[int] = []

    def meddle(number: int, record: bytes) -> list[bytes]:
        if not of_the_data(number, record) or len(done) > 1:
            return [record]
        done.append(number)
        match how:
            case "doubled":
                return [record, record]
            case "dropped":
                return []
            case "swapped" if not held:
                held.append(record)
                return []
            case "swapped":
                return [record, held[0]]
            case "altered":
                return [record[:-1] + bytes([record[-1] ^ 1])]
            case "forged":
                return [record[:5] + bytes(len(record) - 5)]
            case _:
                return [b""]

    got, failure, sent = through(meddle, ends, DATA)
    assert done
    assert not got.endswith(b"<end of file>"), "the server took a broken stream for a whole one"
    assert sent.startswith(got)
    assert isinstance(failure, ConnectionResetError)


def test_a_session_that_was_recorded_can_not_be_said_again(ends: Ends) -> None:
    served: list[bytes] = []

    def keep(connection: socket.socket) -> None:
        served.append(read_all(connection))
        connection.sendall(b"done")

    with serving(keep) as server:
        listening = ends.listen(f"127.0.0.1:{server}")
        with in_the_middle(listening.place) as (port, heard):
            assert talk(ends.connect(f"127.0.0.1:{port}").port, b"DROP TABLE accounts") == b"done"
        (records,) = heard.connections
        with dial(listening.place) as replaying, suppress(OSError):
            for record in records:
                replaying.sendall(record)
            replaying.shutdown(socket.SHUT_WR)
            read_all(replaying)
        listening.wait_for("WARNING .*(failed|during the TLS handshake)")
    assert served == [b"DROP TABLE accounts"]
    assert not any(b"DROP TABLE" in record for record in records)


# Somebody between two good nodes, with a certificate of his own.


class Impostor:
    """Ends the client's TLS and begins another one to the server, with the certificate `own` on both sides."""

    def __init__(self, own: Identity, target: tuple[str, int]) -> None:
        self.own, self.target = own, target
        self.read = b""

    def __call__(self, accepted: socket.socket) -> None:
        accepted.settimeout(None)
        with dial(self.target) as dialled, suppress(SSL.Error, OSError):
            dialled.settimeout(None)
            far, near = self._end(dialled, server=False), self._end(accepted, server=True)
            self.read += far.recv(1000) + near.recv(1000)

    def _end(self, transport: socket.socket, *, server: bool) -> SSL.Connection:
        connection = SSL.Connection(careless(self.own), transport)
        if server:
            connection.set_accept_state()
        else:
            connection.set_connect_state()
        with suppress(SSL.Error):  # the other side is still to be tried
            connection.do_handshake()
        return connection


@pytest.mark.parametrize(
    "own",
    [self_signed(NODE2), issued(authority("Authority"), NODE2), issued(CA, "node3.my.cluster")],
    ids=["self-signed", "own CA", "another node of the cluster"],
)
def test_nobody_in_the_middle_reads_or_writes_a_byte(tmp_path: Path, own: Identity) -> None:
    server, client = settings_of(tmp_path / "server", SERVER, [CA]), settings_of(tmp_path / "client", CLIENT, [CA])
    reached = threading.Event()

    def note(connection: socket.socket) -> None:
        reached.set()
        connection.sendall(b"rows of the donor")

    with (
        serving(note) as place,
        tunnel("listen", server, "127.0.0.1:0", f"127.0.0.1:{place}", "--peer-name", NODE1) as listening,
    ):
        impostor = Impostor(own, listening.place)
        with serving(impostor) as port:
            words = ("--peer-name", NODE2)
            with tunnel("connect", client, "127.0.0.1:0", f"127.0.0.1:{port}", *words) as connecting:
                with dial(connecting.port) as plain, suppress(ConnectionResetError):
                    plain.sendall(b"secret of the joiner")
                    assert plain.recv(1) is None, "neither data nor an end of file may come"
                connecting.wait_for("WARNING .* presented ")
                listening.wait_for("WARNING .* presented ")
    assert impostor.read == b""
    assert not reached.is_set()


def test_a_missing_close_notify_is_an_error_and_no_end_of_file(ends: Ends) -> None:
    arrived = bytearray()

    def meddle(number: int, record: bytes) -> list[bytes]:
        if not of_the_data(number, record) or len(record) != CLOSE_NOTIFY:
            return [record]
        until(lambda: len(arrived) >= len(DATA), 10, "all data")  # a reset throws away what nobody has read yet
        return [b""]

    got, failure, sent = through(meddle, ends, DATA, arrived)
    assert got == sent, "all data came, and then an end that anybody could have made"
    assert isinstance(failure, ConnectionResetError)
