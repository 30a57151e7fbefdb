"""What the documents tell people to write works as written."""

from __future__ import annotations

import re
import shlex
import subprocess
import tomllib
from pathlib import Path

import pytest
import trio

from pytunnel.service.options import OPTIONS, PROCESS_OPTIONS
from pytunnel.service.plan import plan_service
from pytunnel.sst.optionfile import read_group, read_server
from pytunnel.sst.request import Role, parse_request
from pytunnel.sst.settings import SstSettings, read_settings
from pytunnel.sst.tlsfiles import choose_files
from pytunnel.tls.credentials import load_credentials
from pytunnel.tls.settings import TlsSettings
from tests.support.programs import needs

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text()
CONFIGURATION = (ROOT / "docs" / "configuration.md").read_text()


def example(document: str, name: str) -> str:
    """The text of the block that is marked `tested: name`."""
    match = re.search(rf"<!-- tested: {name} -->\n```\w+\n(.*?)```", document, re.DOTALL)
    assert match is not None, f"no example {name}"
    return match[1]


def in_shell(line: str, directory: Path) -> None:
    """Run a line of a document as its reader does."""
    subprocess.run(["sh", "-c", line], check=True, cwd=directory, stderr=subprocess.PIPE, timeout=60)


def read_example(name: str, tmp_path: Path) -> SstSettings:
    """The settings of one of the README's option files, as the server's own program reads it."""
    defaults = tmp_path / "my.cnf"
    defaults.write_text(example(README, name))
    words = ["--role", "joiner", "--address", "node1.my.cluster", "--datadir", str(tmp_path)]
    request = parse_request([*words, "--defaults-file", str(defaults)], {})

    async def read() -> SstSettings:
        sst, mysqld = await read_group(request, "sst"), await read_server(request)
        assert mysqld.get("wsrep-sst-method") == "rsync_tunnel"
        return read_settings(sst, choose_files(sst, mysqld, Role.JOINER, tmp_path))

    return trio.run(read)


@needs("my_print_defaults")
def test_the_self_signed_scenario_is_understood(tmp_path: Path) -> None:
    tls = read_example("self-signed", tmp_path).tls
    assert (tls.certificate, tls.key) == (Path("/etc/my.cnf.d/node1.pem"), None)
    assert (tls.ca, tls.verify) == (Path("/etc/my.cnf.d/bundle.crt"), True)


@needs("my_print_defaults")
def test_the_scenario_without_verification_is_understood(tmp_path: Path) -> None:
    tls = read_example("no-verification", tmp_path).tls
    assert (tls.certificate, tls.verify) == (Path("/etc/my.cnf.d/node1.pem"), False)


@needs("my_print_defaults")
def test_the_ca_scenario_is_understood(tmp_path: Path) -> None:
    tls = read_example("ca", tmp_path).tls
    assert (tls.certificate, tls.key) == (Path("/etc/my.cnf.d/node1.crt"), Path("/etc/my.cnf.d/node1.key"))
    assert (tls.ca, tls.verify) == (Path("/etc/my.cnf.d/ca.crt"), True)


@needs("openssl")
def test_the_recipe_for_self_signed_certificates_gives_files_that_can_be_used(tmp_path: Path) -> None:
    recipe = [line.strip() for line in README.splitlines() if re.match(r"    (openssl req|\(umask|cat node1)", line)]
    assert len(recipe) == 3
    for other in ("node2", "node3"):
        in_shell(recipe[0].replace("node1", other), tmp_path)
    for line in recipe:
        in_shell(line, tmp_path)
    credentials = load_credentials(TlsSettings(certificate=tmp_path / "node1.pem", ca=tmp_path / "bundle.crt"))
    assert len(credentials.trusted) == 3
    assert credentials.warnings == ()


@pytest.mark.parametrize("line", re.findall(r"^ {4}pytunnel ((?:listen|connect) .*)$", README, re.MULTILINE))
def test_the_tunnels_by_hand_can_be_started_as_written(line: str) -> None:
    command, *words = shlex.split(line, comments=True)
    *options, source, target = words
    given = dict(zip((option.removeprefix("--") for option in options[::2]), options[1::2], strict=True))
    plan = plan_service({"mode": command, "from": source, "to": target} | given, {}, None)
    assert plan.tunnels[0].tls.certificate is not None


def test_the_example_of_a_configuration_file_is_understood(tmp_path: Path) -> None:
    file = tmp_path / "pytunnel.toml"
    file.write_text(example(CONFIGURATION, "toml"))
    plan = plan_service({"mode": "listen", "from": ":4444", "to": "127.0.0.1:873"}, {}, file).tunnels[0]
    assert plan.tls.peer_names == ("node1.my.cluster", "node3.my.cluster")
    assert plan.limits.idle == 600


def test_the_example_of_several_tunnels_is_understood(tmp_path: Path) -> None:
    file = tmp_path / "pytunnel.toml"
    file.write_text(example(CONFIGURATION, "tunnels"))
    plan = plan_service({}, {}, file)
    assert [(tunnel.name, tunnel.mode, str(tunnel.source)) for tunnel in plan.tunnels] == [
        ("db", "listen", "node2.my.cluster:3307"),
        ("backup", "connect", "127.0.0.1:8730"),
    ]
    assert [tunnel.limits.idle for tunnel in plan.tunnels] == [None, 600]
    assert str(plan.status) == "127.0.0.1:9873"


def test_what_is_the_process_s_is_named_as_no_option_of_a_tunnel() -> None:
    *_, sentence = re.findall(r"[^;]*; ([^;]*) are the process's and stand there only\.", CONFIGURATION)
    assert re.findall("`([^`]+)`", sentence) == [option.name for option in PROCESS_OPTIONS]


def test_each_option_has_its_row_and_its_variable() -> None:
    rows = dict(re.findall(r"^\| `--([\w-]+)[^`]*`[^|]*(?:\\\|[^|]*)*\| `(\w+)", CONFIGURATION, re.MULTILINE))
    assert rows == {option.name: option.variable for option in (*OPTIONS, *PROCESS_OPTIONS)} | {
        "config": "PYTUNNEL_CONFIG"
    }


@pytest.mark.parametrize("name", ["self-signed", "no-verification", "ca"])
def test_the_files_in_conf_are_the_readmes(name: str) -> None:
    text = (ROOT / "conf" / f"{name}.cnf").read_text()
    assert text.endswith(example(README, name))


def test_the_readme_opens_with_the_two_commands() -> None:
    commands = re.findall(r"^ {4}(make \w+)", README, re.MULTILINE)
    assert commands[:2] == ["make demo", "make test"]


def test_the_commands_that_the_readme_links_are_there_after_its_installation() -> None:
    linked = re.findall(r"^ +ln -s /opt/pytunnel/(\S+) /usr/bin/$", README, re.MULTILINE)
    installed = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["scripts"]
    there = {"wsrep_sst_rsync_tunnel", *(f".venv/bin/{name}" for name in installed)}
    assert linked == ["wsrep_sst_rsync_tunnel", ".venv/bin/pytunnel"]
    assert set(linked) <= there


def test_the_demo_without_mariadb_is_run_from_where_it_was_installed() -> None:
    made, *_ = re.findall(r"python3 -m venv (\S+) && (\S+)/bin/pip install \.$", README, re.MULTILINE)
    assert made[0] == made[1]
    assert f"\n    {made[0]}/bin/pytunnel demo\n" in README


def test_no_document_tells_to_install_the_package_of_strangers() -> None:
    documents = [README, *(path.read_text() for path in (ROOT / "docs").glob("*.md"))]
    assert not any(re.search(r"pip3? install (\S+ )*pytunnel(\s|$)", text) for text in documents)
