"""Real proxies in front of a tunnel: nginx and haproxy as docs/websocket.md sets them up, and tinyproxy."""

from __future__ import annotations

import os
import re
import socket
import subprocess
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from lab.certificates import Identity
from tests.support.programs import needs
from tests.support.sst import free_port
from tests.support.tunnels import LIMIT

HOST = "localhost"
"""What the documents call edge.example."""

_DOCUMENT = (Path(__file__).parents[2] / "docs" / "websocket.md").read_text()
_NGINX_AROUND = """
daemon off;
worker_processes 1;
pid {folder}/nginx.pid;
error_log {folder}/error.log;
events {{ worker_connections 500; }}
http {{
    access_log off;
    client_body_temp_path {folder}; proxy_temp_path {folder}; fastcgi_temp_path {folder};
    uwsgi_temp_path {folder}; scgi_temp_path {folder};
    {server}
    server {{ listen 127.0.0.1:{port} ssl default_server; ssl_certificate {certificate};
              ssl_certificate_key {certificate}; return 421; }}
}}
"""


@dataclass(frozen=True, slots=True)
class Edge:
    """A reverse proxy that ends the outer TLS; `routes` are the paths that lead to nodes, with their ports."""

    program: str
    port: int

    def url(self, path: str, host: str = HOST) -> str:
        """The URL of a WebSocket behind it."""
        return f"wss://{host}:{self.port}{path}"


def example(name: str) -> str:
    """The block of the document that is marked `tested: name`."""
    match = re.search(rf"<!-- tested: {name} -->\n```\w+\n(.*?)```", _DOCUMENT, re.DOTALL)
    assert match is not None, f"no example {name}"
    return match[1]


EDGES = [pytest.param(name, marks=needs(name)) for name in ("nginx", "haproxy")]


@contextmanager
def edge(
    program: str, folder: Path, own: Identity, path: str, node: int, *, address: str = "127.0.0.1", more: str = ""
) -> Iterator[Edge]:
    """nginx or haproxy during the block, as documented: `path` leads to the port `node` of `address`.

    `more` is put before what passes the request on, in the program's own words.
    """
    folder.mkdir()
    port = free_port("127.0.0.1")
    certificate = folder / "edge.pem"
    certificate.write_bytes(own.combined_pem())
    text = example(program).replace("/sst/node2.my.cluster", path).replace("edge.example", HOST)
    text = text.replace("node2.my.cluster:8080", f"{address}:{node}")
    if program == "nginx":
        text = text.replace("listen 443", f"listen 127.0.0.1:{port}")
        text = re.sub(r"/etc/nginx/edge\.\w+", str(certificate), text).replace("proxy_pass", f"{more} proxy_pass")
        text = _NGINX_AROUND.format(folder=folder, server=text, port=port, certificate=certificate)
        command = ["nginx", "-c", str(folder / "edge.conf"), "-e", str(folder / "error.log")]
    else:
        text = text.replace("bind :443", f"bind 127.0.0.1:{port}").replace("/etc/haproxy/edge.pem", str(certificate))
        text = text.replace("use_backend", f"{more}\n    use_backend")
        command = ["haproxy", "-db", "-f", str(folder / "edge.conf")]
    (folder / "edge.conf").write_text(text)
    with running(command, port):
        yield Edge(program, port)


@contextmanager
def forward_proxy(folder: Path, allowed: Sequence[int]) -> Iterator[int]:
    """tinyproxy during the block: CONNECT to the allowed ports alone; its port."""
    folder.mkdir()
    port = free_port("127.0.0.1")
    lines = [f"Port {port}", "Listen 127.0.0.1", "Timeout 600", "MaxClients 50"]
    lines += [f"ConnectPort {it}" for it in allowed]
    lines += ["Allow 127.0.0.1", f'LogFile "{folder}/log"', "LogLevel Connect"]
    (folder / "tinyproxy.conf").write_text("\n".join((*lines, "")))
    with running(["tinyproxy", "-d", "-c", str(folder / "tinyproxy.conf")], port):
        yield port


@contextmanager
def running(command: Sequence[str], port: int) -> Iterator[None]:
    """A program during the block, once it listens at `port`."""
    environment = os.environ | {"PATH": f"{os.environ.get('PATH', '')}:/usr/sbin"}
    with subprocess.Popen(
        list(command), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, env=environment
    ) as process:
        try:
            _wait_until_listening(process, port)
            yield
        finally:
            process.terminate()
            try:
                process.communicate(timeout=LIMIT)
            except subprocess.TimeoutExpired:
                process.kill()


def _wait_until_listening(process: subprocess.Popen[bytes], port: int) -> None:
    deadline = time.monotonic() + LIMIT
    while time.monotonic() < deadline and process.poll() is None:
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.02)
    process.kill()
    raise AssertionError(f"{process.args!r} does not listen: {process.communicate(timeout=LIMIT)[0].decode()}")
