"""What docs/sidecar.md tells people to write works as written; the stock method's layout runs in tests/cluster."""

from __future__ import annotations

import re
import shlex
import subprocess
from pathlib import Path

import pytest

from pytunnel.service.plan import plan_service
from pytunnel.tunnel.http_connect import AllowedTargets
from tests.support.documents import example
from tests.support.programs import needs
from tests.support.tunnels import LIMIT

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "sidecar.md").read_text()


@needs("mariadbd")
def test_the_server_knows_the_options_of_the_stock_method(tmp_path: Path) -> None:
    (tmp_path / "my.cnf").write_text(example(PAGE, "stock-cnf"))
    words = ["mariadbd", f"--defaults-file={tmp_path}/my.cnf", "--user=mysql", "--verbose", "--help"]
    done = subprocess.run(words, capture_output=True, text=True, timeout=LIMIT, check=True)
    assert re.search(r"^wsrep-sst-receive-address +node1\.my\.cluster:4444$", done.stdout, re.MULTILINE)


def test_the_parts_of_the_stock_layout_fit_together(tmp_path: Path) -> None:
    (tmp_path / "x.toml").write_text(example(PAGE, "stock-toml"))
    receive, send = plan_service({}, {}, tmp_path / "x.toml").tunnels
    assert isinstance(send.target, AllowedTargets)
    assert example(PAGE, "stock-unit") == f"[Service]\nEnvironment=RSYNC_PROXY={send.source}\n"
    name = re.findall(r"receive_address = (\S+)", example(PAGE, "stock-cnf"))[0].partition(":")[0]
    assert name in receive.tls.peer_names
    assert [str(pattern) for pattern in send.target.patterns] == ["*.my.cluster:4444"]


@needs("systemd-analyze")
@pytest.mark.parametrize(("unit", "name"), [("mariadb.service", "stock-unit"), ("pytunnel@.service", "files-unit")])
def test_systemd_takes_the_drop_ins(tmp_path: Path, unit: str, name: str) -> None:
    text = (ROOT / "conf" / "pytunnel@.service").read_text().replace("/opt/pytunnel/.venv/bin/pytunnel", "/bin/true")
    (tmp_path / unit).write_text(text)
    (tmp_path / f"{unit}.d").mkdir()
    (tmp_path / f"{unit}.d" / "pytunnel.conf").write_text(example(PAGE, name))
    words = ["systemd-analyze", "verify", "--man=no", str(tmp_path / unit)]
    done = subprocess.run(words, capture_output=True, text=True, timeout=LIMIT, check=False)
    assert (done.returncode, done.stderr) == (0, "")


def test_the_files_of_the_service_are_put_where_no_directory_was_made_before(tmp_path: Path) -> None:
    (tmp_path / "etc/systemd/system").mkdir(parents=True)  # every systemd has it
    recipe = re.findall(r"^ {4}((?:cp|install) .*)$", PAGE, re.MULTILINE)
    for line in recipe:
        command = line.replace(" /etc/", f" {tmp_path}/etc/")
        subprocess.run(["bash", "-c", command], cwd=ROOT, timeout=LIMIT, check=True)
    assert (tmp_path / "etc/pytunnel/sst.toml").read_text() == (ROOT / "conf" / "pytunnel.toml").read_text()


def test_the_container_is_given_options_that_there_are() -> None:
    words = shlex.split(example(PAGE, "podman"))
    environment = dict(word.removeprefix("--env=").split("=", 1) for word in words if word.startswith("--env="))
    plan = plan_service({}, environment, None)
    assert plan.status is not None
    assert str(plan.tunnels[0].source) == "0.0.0.0:4444"
    assert {"--read-only", "--cap-drop=all", "--security-opt=no-new-privileges"} <= set(words)


def test_the_files_that_are_named_are_there() -> None:
    named = set(re.findall(r"\bconf/[\w@./]+\w", PAGE))
    assert len(named) >= 5
    assert [name for name in named if not (ROOT / name).exists()] == []


def test_the_metrics_that_are_named_are_there() -> None:
    named = re.findall(r"\bpytunnel_\w+", PAGE)
    source = (ROOT / "src" / "pytunnel" / "status" / "metrics.py").read_text()
    assert named
    assert [name for name in named if name.removesuffix("_total").removesuffix("_info") not in source] == []
