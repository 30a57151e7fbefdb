"""`--status` as probes, Prometheus and people see it: the real program, asked over HTTP."""

from __future__ import annotations

import datetime
import signal
import socket
import stat
import subprocess
from collections.abc import Mapping
from contextlib import ExitStack, closing
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from lab.certificates import authority, issued, self_signed
from lab.waiting import comes_true
from tests.support.credentials import settings_of
from tests.support.ends import NODE1, NODE2, Ends
from tests.support.plain import dial, echo, is_refused, read_all, serving, talk
from tests.support.programs import needs
from tests.support.tunnels import LIMIT, credentials, pytunnel, started, tunnel
from tests.support.web import ask

HERE = ("--status", ":0")


def metrics_of(port: int) -> Mapping[tuple[str, frozenset[tuple[str, str]]], float]:
    """Each sample of /metrics, by its name and labels."""
    families = text_string_to_metric_families(ask(port, "/metrics").text)
    return {
        (sample.name, frozenset(sample.labels.items())): sample.value
        for family in families
        for sample in family.samples
    }


def value(port: int, name: str, **labels: str) -> float:
    return metrics_of(port)[name, frozenset(labels.items())]


# Probes.


def test_a_tunnel_that_listens_is_alive_and_ready(ends: Ends) -> None:
    port = ends.listen("exec:cat", *HERE).status_port
    assert (ask(port, "/healthz").status, ask(port, "/healthz").text) == (200, "alive\n")
    assert (ask(port, "/readyz").status, ask(port, "/readyz").text) == (200, "ready\n")


def test_a_tunnel_that_drains_is_alive_and_not_ready(ends: Ends) -> None:
    listening, connecting = ends.pair("exec:cat", *HERE)
    port = listening.status_port
    with dial(connecting.port) as client:
        client.sendall(b"x")
        assert client.recv(1) == b"x"
        listening.signal(signal.SIGTERM)
        listening.wait_for("draining: open connections")
        assert (ask(port, "/readyz").status, ask(port, "/readyz").text) == (503, "listen: draining\n")
        assert ask(port, "/healthz").status == 200
        client.shutdown(socket.SHUT_WR)
        assert client.recv(1) == b""
    assert listening.wait() == 0
    assert is_refused(port)


def test_a_certificate_that_has_expired_since_the_start_is_not_ready(tmp_path: Path) -> None:
    soon = datetime.datetime.now(datetime.UTC) + datetime.timedelta(seconds=4)
    authority_ = authority("Authority")
    own = issued(authority_, NODE2, end=soon)
    settings = settings_of(tmp_path / "node2", own, [authority_])
    with tunnel("listen", settings, "127.0.0.1:0", "exec:cat", *HERE) as listening:
        port = listening.status_port
        assert ask(port, "/readyz").status == 200
        assert comes_true(lambda: ask(port, "/readyz").status == 503, LIMIT)
        assert ask(port, "/readyz").text == f"listen: the certificate /CN={NODE2} has expired\n"


def test_without_the_option_nothing_more_listens(ends: Ends) -> None:
    listening = ends.listen("exec:cat")
    listening.wait_for("accepting TLS")
    opened = [str(link.readlink()) for link in Path(f"/proc/{listening.process.pid}/fd").iterdir()]
    inodes = {name.removeprefix("socket:[").removesuffix("]") for name in opened if name.startswith("socket:")}
    tables = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
    assert [row[1] for row in tables if row[9] in inodes and row[3] == "0A"] == [f"0100007F:{listening.port:04X}"]


# Metrics.


def test_metrics_tell_of_connections_bytes_handshakes_and_certificates(ends: Ends) -> None:
    listening, connecting = ends.pair("exec:cat", *HERE, connect_options=HERE)
    assert talk(connecting.port, b"x" * 1000) == b"x" * 1000
    for program, mode in ((listening, "listen"), (connecting, "connect")):
        port = program.status_port
        program.wait_for("ended: 1000 bytes out")
        assert value(port, "pytunnel_connections_open", tunnel=mode, mode=mode) == 0
        assert value(port, "pytunnel_connections_total", tunnel=mode, outcome="completed", reason="") == 1
        assert value(port, "pytunnel_bytes_total", tunnel=mode, direction="out") == 1000
        assert value(port, "pytunnel_bytes_total", tunnel=mode, direction="in") == 1000
        assert value(port, "pytunnel_handshake_seconds_count", tunnel=mode) == 1
        assert value(port, "pytunnel_handshake_seconds_bucket", tunnel=mode, le="+Inf") == 1
        assert 0 < value(port, "pytunnel_handshake_seconds_sum", tunnel=mode) < LIMIT
        assert value(port, "pytunnel_certificate_reloads_total", tunnel=mode, result="failed") == 0
        assert value(port, "pytunnel_ready") == 1
    expiry = {
        (dict(labels)["kind"], dict(labels)["subject"]): moment
        for (name, labels), moment in metrics_of(port).items()
        if name == "pytunnel_certificate_expiry_timestamp_seconds"
    }
    assert expiry.keys() == {
        ("own", f"/CN={NODE1}"),
        ("trusted", f"/CN={NODE1}"),
        ("trusted", f"/CN={NODE2}"),
    }
    now = datetime.datetime.now(datetime.UTC).timestamp()
    assert all(moment > now for moment in expiry.values())


def test_failures_are_counted_by_reason(ends: Ends, tmp_path: Path) -> None:
    listening = ends.listen("exec:cat", *HERE)
    stranger = self_signed("stranger.my.cluster")
    with (
        started(
            pytunnel(
                "connect",
                *credentials(settings_of(tmp_path / "stranger", stranger, [stranger])),
                "--no-verify",
                "127.0.0.1:0",
                f"127.0.0.1:{listening.port}",
            )
        ) as connecting,
        dial(connecting.port) as client,
        pytest.raises(ConnectionResetError),
    ):
        client.recv(1)
    listening.wait_for("WARNING")
    with dial(listening.port) as client:
        client.sendall(b"GET / HTTP/1.0\r\n\r\n")
        read_all(client)
    port = listening.status_port

    def counted(reason: str) -> float:
        labels = {"tunnel": "listen", "outcome": "failed", "reason": reason}
        return metrics_of(port).get(("pytunnel_connections_total", frozenset(labels.items())), 0)

    assert comes_true(lambda: counted("untrusted") == 1 and counted("handshake") == 1, LIMIT)


def test_reloads_are_counted(ends: Ends) -> None:
    listening = ends.listen("exec:cat", *HERE)
    port = listening.status_port

    def reloads() -> tuple[float, ...]:
        name = "pytunnel_certificate_reloads_total"
        return tuple(value(port, name, tunnel="listen", result=result) for result in ("ok", "failed"))

    assert reloads() == (0, 0)
    listening.wait_for("accepting TLS")
    listening.signal(signal.SIGHUP)
    assert comes_true(lambda: reloads() == (1, 0), LIMIT)
    assert ends.node2.certificate is not None
    ends.node2.certificate.write_text("broken")
    listening.signal(signal.SIGHUP)
    assert comes_true(lambda: reloads()[1] > 0, LIMIT)
    assert ask(port, "/readyz").status == 200


# The whole status.


def test_the_status_tells_of_open_connections_and_their_peers(ends: Ends) -> None:
    listening, connecting = ends.pair("exec:cat", *HERE)
    port = listening.status_port
    with dial(connecting.port) as client:
        client.sendall(b"x")
        assert client.recv(1) == b"x"
        reply = ask(port, "/status")
        assert reply.headers["content-type"] == "application/json"
        document = reply.document
        (shown,) = document["tunnels"]
        assert (document["ready"], document["reasons"]) == (True, [])
        assert (shown["name"], shown["mode"], shown["state"], shown["open"]) == ("listen", "listen", "listening", 1)
        assert shown["source"] == "{}:{}".format(*listening.place)
        (connection,) = shown["connections"]
        assert NODE1 in connection["peer"]
        assert (connection["tls"], connection["bytes_out"], connection["bytes_in"]) == ("TLSv1.3", 1, 1)
        assert connection["cipher"].startswith("TLS_")


def test_what_may_be_secret_is_not_told(ends: Ends) -> None:
    listening, connecting = ends.pair("exec:sh -c 'exec cat' --password=hunter2", *HERE)
    port = listening.status_port
    with dial(connecting.port) as client:
        client.sendall(b"x")
        assert client.recv(1) == b"x"
        texts = [ask(port, path).text for path in ("/status", "/metrics", "/readyz")]
        assert len(ask(port, "/status").document["tunnels"][0]["connections"]) == 1
    assert "exec:sh" in texts[0]
    assert "hunter2" not in "".join(texts)
    assert str(ends.node2.certificate) not in "".join(texts)


def test_several_tunnels_are_told_of_by_their_names(ends: Ends, tmp_path: Path) -> None:
    file = tmp_path / "pytunnel.toml"
    file.write_text(
        f'cert = "{ends.node2.certificate}"\nca = "{ends.node2.ca}"\nstatus = ":0"\n'
        '[[tunnel]]\nname = "sst"\nmode = "listen"\nfrom = "127.0.0.1:0"\nto = "exec:cat"\n'
        '[[tunnel]]\nname = "db"\nmode = "connect"\nfrom = "127.0.0.1:0"\nto = "127.0.0.1:9"\npeer-name = "node1"\n'
    )
    with started(pytunnel("run", "--config", str(file))) as running:
        running.wait_for("INFO sst: accepting TLS")
        running.wait_for("INFO db: accepting plain")
        document = ask(running.status_port, "/status").document
        assert [(each["name"], each["mode"]) for each in document["tunnels"]] == [("sst", "listen"), ("db", "connect")]
        running.signal(signal.SIGTERM)
        assert running.wait() == 0


# Who may ask.


def test_a_unix_socket_is_for_its_user_alone_and_goes_with_the_program(ends: Ends, tmp_path: Path) -> None:
    path = tmp_path / "status.sock"
    listening = ends.listen("exec:cat", "--status", f"unix:{path}")
    listening.wait_for("status at unix:")
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert ask(path, "/readyz").status == 200
    listening.signal(signal.SIGTERM)
    assert listening.wait() == 0
    assert not path.exists()


def test_an_address_that_others_reach_is_warned_of(ends: Ends) -> None:
    listening = ends.listen("exec:cat", "--status", "0.0.0.0:0")
    listening.wait_for(r"WARNING status at 0\.0\.0\.0:\d+ can be read by everyone who reaches this address")
    assert ends.listen("exec:cat", *HERE).status_port > 0


def test_an_address_that_is_taken_is_named_before_any_tunnel_listens(ends: Ends) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        words = [*credentials(ends.node2), "--status", f":{port}", "127.0.0.1:0", "exec:cat"]
        with started(pytunnel("listen", *words)) as listening:
            assert listening.wait() == 1
    assert f"can't listen on 127.0.0.1:{port}" in listening.lines[-1]
    assert not any("accepting" in line for line in listening.lines)


# What visitors may do.


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [("GET", "/nowhere", 404), ("GET", "/", 404), ("POST", "/healthz", 405), ("GET", "/healthz?full=1", 200)],
)
def test_other_requests_are_answered_as_http_says(method: str, path: str, status: int, ends: Ends) -> None:
    port = ends.listen("exec:cat", *HERE).status_port
    assert ask(port, path, method).status == status


def test_a_head_request_gets_the_head_alone(ends: Ends) -> None:
    reply = ask(ends.listen("exec:cat", *HERE).status_port, "/readyz", "HEAD")
    assert (reply.status, reply.headers["content-length"], reply.text) == (200, "6", "")


@pytest.mark.parametrize(
    ("request_", "status"),
    [
        (b"GET /healthz HTTP/1.1\r\nHost: x\r\nX: " + b"x" * 20000 + b"\r\n\r\n", b"HTTP/1.1 431 "),
        (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n", b"HTTP/1.1 400 "),
    ],
)
def test_a_request_that_is_too_large_or_none_is_refused(request_: bytes, status: bytes, ends: Ends) -> None:
    port = ends.listen("exec:cat", *HERE).status_port
    with dial(port) as client:
        client.sendall(request_)
        assert client.recv(1000).startswith(status)
    assert ask(port, "/healthz").status == 200


def test_visitors_who_say_nothing_keep_nobody_out(ends: Ends) -> None:
    port = ends.listen("exec:cat", *HERE).status_port
    with ExitStack() as silent:
        many = [silent.enter_context(closing(dial(port))) for _ in range(100)]
        assert ask(port, "/healthz").status == 200
        assert many[0].recv(1) == b""


def test_a_visitor_who_says_nothing_is_sent_away(ends: Ends) -> None:
    port = ends.listen("exec:cat", *HERE).status_port
    with dial(port) as client:
        client.sendall(b"GET /healthz HTTP/1.1\r\n")
        assert client.recv(1) == b""


@needs("curl")
def test_curl_reads_it(ends: Ends, tmp_path: Path) -> None:
    path = tmp_path / "status.sock"
    ends.listen("exec:cat", "--status", f"unix:{path}").wait_for("accepting TLS")
    words = ["curl", "--silent", "--fail", "--unix-socket", str(path), "http://localhost/readyz"]
    done = subprocess.run(words, capture_output=True, text=True, check=True, timeout=LIMIT)
    assert done.stdout == "ready\n"


def test_a_tunnel_under_load_still_answers(ends: Ends) -> None:
    with serving(echo) as server:
        listening, connecting = ends.pair(f"127.0.0.1:{server}", *HERE)
        port = listening.status_port
        assert talk(connecting.port, b"x" * 30_000_000) == b"x" * 30_000_000
        assert comes_true(lambda: value(port, "pytunnel_bytes_total", tunnel="listen", direction="in") == 3e7, LIMIT)
