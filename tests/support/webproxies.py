"""Real proxies in front of a tunnel: nginx and haproxy as docs/websocket.md sets them up, and tinyproxy."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from lab.certificates import Identity
from lab.hosts import Host
from lab.ports import free_port
from lab.waiting import comes_true
from pytunnel.transport.endpoint import TcpEndpoint
from tests.support.programs import needs
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
    server {{ listen {address}:{port} ssl default_server; ssl_certificate {certificate};
              ssl_certificate_key {certificate}; return 421; }}
}}
"""


@dataclass(frozen=True, slots=True)
class Edge:
    """A reverse proxy that ends the outer TLS."""

    program: str
    host: str
    port: int

    def url(self, path: str) -> str:
        """The URL of a WebSocket behind it."""
        return f"wss://{self.host}:{self.port}{path}"


def example(name: str) -> str:
    """The block of the document that is marked `tested: name`."""
    match = re.search(rf"<!-- tested: {name} -->\n```\w+\n(.*?)```", _DOCUMENT, re.DOTALL)
    assert match is not None, f"no example {name}"
    return match[1]


EDGES = [pytest.param(name, marks=needs(name)) for name in ("nginx", "haproxy")]


_LOCAL = Host(HOST, "127.0.0.1")


@contextmanager
def edge(
    program: str, folder: Path, own: Identity, path: str, node: TcpEndpoint, *, at: Host = _LOCAL, more: str = ""
) -> Iterator[Edge]:
    """nginx or haproxy during the block, as documented: `path` leads to `node`, requests must be for the host `at`.

    `more` is put before what passes the request on, in the program's own words.
    """
    folder.mkdir()
    port = 8443 if at.namespace else free_port(at.address)
    certificate = folder / "edge.pem"
    certificate.write_bytes(own.combined_pem())
    text = example(program).replace("/sst/node2.my.cluster", path).replace("edge.example", at.name)
    text = text.replace("node2.my.cluster:8080", str(node))
    if program == "nginx":
        text = text.replace("listen 443", f"listen {at.address}:{port}")
        text = re.sub(r"/etc/nginx/edge\.\w+", str(certificate), text).replace("proxy_pass", f"{more} proxy_pass")
        text = _NGINX_AROUND.format(folder=folder, server=text, address=at.address, port=port, certificate=certificate)
        command = ["nginx", "-c", str(folder / "edge.conf"), "-e", str(folder / "error.log")]
    else:
        text = text.replace("bind :443", f"bind {at.address}:{port}").replace("/etc/haproxy/edge.pem", str(certificate))
        text = text.replace("use_backend", f"{more}\n    use_backend")
        command = ["haproxy", "-db", "-f", str(folder / "edge.conf")]
    (folder / "edge.conf").write_text(text)
    with running(at.command(*command), at, port):
        yield Edge(program, at.name, port)


@contextmanager
def forward_proxy(folder: Path, allowed: Sequence[int]) -> Iterator[int]:
    """tinyproxy during the block: CONNECT to the allowed ports alone; its port."""
    folder.mkdir()
    port = free_port("127.0.0.1")
    lines = [f"Port {port}", "Listen 127.0.0.1", "Timeout 600", "MaxClients 50"]
    lines += [f"ConnectPort {it}" for it in allowed]
    lines += ["Allow 127.0.0.1", f'LogFile "{folder}/log"', "LogLevel Connect"]
    (folder / "tinyproxy.conf").write_text("\n".join((*lines, "")))
    with running(["tinyproxy", "-d", "-c", str(folder / "tinyproxy.conf")], _LOCAL, port):
        yield port


@contextmanager
def running(command: Sequence[str], at: Host, port: int) -> Iterator[None]:
    """A program during the block, once it listens at `port` of the host `at`."""
    environment = os.environ | {"PATH": f"{os.environ.get('PATH', '')}:/usr/sbin"}
    with subprocess.Popen(
        list(command), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, env=environment
    ) as process:
        try:
            if not comes_true(lambda: process.poll() is not None or _listens(at, port), LIMIT) or process.poll():
                process.kill()
                raise AssertionError(f"{command} does not listen: {process.communicate(timeout=LIMIT)[0].decode()}")
            yield
        finally:
            process.terminate()
            try:
                process.communicate(timeout=LIMIT)
            except subprocess.TimeoutExpired:
                process.kill()


def _listens(at: Host, port: int) -> bool:
    probe = f"import socket; socket.create_connection(({at.address!r}, {port}), 5)"
    command = at.command(sys.executable, "-c", probe)
    return subprocess.run(command, check=False, stderr=subprocess.DEVNULL, timeout=LIMIT).returncode == 0
