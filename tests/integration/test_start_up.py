"""What a program loads before it is of use: nothing that this run of it doesn't need."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from lab.certificates import Identity, self_signed
from lab.ports import free_port
from tests.support.programs import needs
from tests.support.sst import PlayedServer
from tests.support.tunnels import pytunnel, ran

TOLD = {"PYTHONPROFILEIMPORTTIME": "1"}  # Python's own account of what it loads, on standard error
WEB_SOCKETS = "wsproto"


def loaded(errors: str) -> set[str]:
    """The packages that Python says it has loaded."""
    return {name.partition(".")[0] for name in re.findall(r"^import time:.*\| +(\S+)$", errors, re.MULTILINE)}


@pytest.fixture(name="own", scope="module")
def fixture_own() -> Identity:
    return self_signed("127.0.0.1")


@pytest.fixture(name="joiner")
def fixture_joiner(tmp_path: Path, own: Identity) -> PlayedServer:
    server = PlayedServer(tmp_path / "joiner", prefix=("env", *(f"{name}={value}" for name, value in TOLD.items())))
    return server.use(own, [own])


def loaded_until_ready(joiner: PlayedServer) -> set[str]:
    run = joiner.start_joiner()
    run.ready()
    run.process.terminate()
    run.end()
    return loaded(run.log)


def test_help_loads_neither_the_scheduler_nor_tls() -> None:
    done = ran(pytunnel("--help"), environment=TOLD)
    assert done.returncode == 0
    assert "argparse" in loaded(done.stderr)
    assert not {"trio", "OpenSSL", "cryptography", "h11", WEB_SOCKETS} & loaded(done.stderr)


def test_certificates_are_shown_without_the_scheduler(tmp_path: Path, own: Identity) -> None:
    (tmp_path / "node.crt").write_bytes(own.certificate_pem())
    done = ran(pytunnel("certs", "show", str(tmp_path / "node.crt")), environment=TOLD)
    assert done.returncode == 0
    assert "cryptography" in loaded(done.stderr)
    assert not {"trio", "h11", WEB_SOCKETS} & loaded(done.stderr)


@needs("rsync", "my_print_defaults")
def test_a_joiner_without_a_websocket_loads_no_websocket(joiner: PlayedServer) -> None:
    packages = loaded_until_ready(joiner)
    assert "OpenSSL" in packages
    assert WEB_SOCKETS not in packages


@needs("rsync", "my_print_defaults")
def test_a_joiner_loads_its_websocket_before_it_is_ready(joiner: PlayedServer) -> None:
    """Later the package may have been replaced by another version, or may not be read any more."""
    joiner.options["listen"] = f"ws://127.0.0.1:{free_port('127.0.0.1')}/sst"
    assert WEB_SOCKETS in loaded_until_ready(joiner)
