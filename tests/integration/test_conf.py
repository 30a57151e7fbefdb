"""The files in conf/ are what the programs that read them take, and what docs/sidecar.md says of them."""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml

from lab.certificates import authority, bundle_pem, issued, self_signed
from lab.hosts import Host, can_make_namespaces, hosts
from pytunnel.service.plan import ServicePlan, plan_service
from pytunnel.tunnel.http_connect import AllowedTargets
from tests.support.containers import USER, Image, built, running
from tests.support.credentials import settings_of
from tests.support.ends import NODE2
from tests.support.plain import talk
from tests.support.programs import needs
from tests.support.tunnels import LIMIT, credentials, pytunnel, started

ROOT = Path(__file__).parents[2]
CONF = ROOT / "conf"
KUBERNETES = ("1.33", "1.37")
"""The first release in which native sidecars are stable, and the newest one that the schemas know."""


def run(*words: str | Path, limit: float = LIMIT) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [str(word) for word in words],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=limit,
        check=False,
    )


# Option files of the database server.


@needs("mariadbd")
@pytest.mark.parametrize("file", sorted(CONF.glob("*.cnf")), ids=lambda file: file.name)
def test_the_server_knows_every_option_of_the_file(file: Path) -> None:
    done = run("mariadbd", f"--defaults-file={file}", "--user=mysql", "--verbose", "--help")
    assert done.returncode == 0, done.stderr
    assert re.search(r"^wsrep-sst-method +rsync_tunnel$", done.stdout, re.MULTILINE)


@needs("mariadbd")
def test_the_server_says_when_it_does_not_know_an_option(tmp_path: Path) -> None:
    (tmp_path / "my.cnf").write_text("[mysqld]\nwsrep_sst_metod = rsync_tunnel\n")
    done = run("mariadbd", f"--defaults-file={tmp_path}/my.cnf", "--user=mysql", "--verbose", "--help")
    assert done.returncode != 0


# systemd.


@pytest.fixture
def units(tmp_path: Path) -> Path:
    """The units with a program that is there: systemd looks for it."""
    for name in ("pytunnel@.service", "pytunnel@.socket"):
        text = (CONF / name).read_text().replace("/opt/pytunnel/.venv/bin/pytunnel", "/bin/true")
        (tmp_path / name).write_text(text)
    return tmp_path


@needs("systemd-analyze")
@pytest.mark.parametrize("name", ["pytunnel@.service", "pytunnel@.socket"])
def test_systemd_has_nothing_to_say_about_the_unit(units: Path, name: str) -> None:
    done = run("systemd-analyze", "verify", "--man=no", units / name)
    assert (done.returncode, done.stderr) == (0, "")


@needs("systemd-analyze")
def test_systemd_says_what_it_does_not_know(units: Path) -> None:
    unit = units / "pytunnel@.service"
    unit.write_text(unit.read_text().replace("ProtectHome=yes", "ProtectHome=yes\nProtectHose=yes"))
    assert "ProtectHose" in run("systemd-analyze", "verify", "--man=no", unit).stderr


@needs("systemd-analyze")
def test_the_service_is_exposed_to_little(units: Path) -> None:
    security = ["systemd-analyze", "security", "--offline=yes", "--no-pager", "--threshold=15"]
    done = run(*security, units / "pytunnel@.service")
    assert done.returncode == 0, done.stdout


@needs("systemd-analyze", "strace")
def test_every_system_call_of_a_tunnel_passes_the_service_s_filter(tmp_path: Path) -> None:
    own = self_signed(NODE2)
    node = settings_of(tmp_path / "node2", own, [own])
    trace = ["strace", "-f", "-qq", "-o", str(tmp_path / "calls")]
    words = pytunnel("listen", *credentials(node), "--status", f"unix:{tmp_path}/status", "127.0.0.1:0", "exec:cat")
    with started([*trace, *words]) as program:
        options = ["--peer-name", NODE2, "127.0.0.1:0", f"127.0.0.1:{program.port}"]
        with started(pytunnel("connect", *credentials(node), *options)) as connecting:
            assert talk(connecting.port, b"x") == b"x"
        tunnel = int(Path(f"/proc/{program.process.pid}/task/{program.process.pid}/children").read_text().split()[0])
        os.kill(tunnel, signal.SIGHUP)
        program.wait_for("certificates renewed")
        os.kill(tunnel, signal.SIGTERM)
        assert program.wait() == 0
    used = set(re.findall(r"^\d+ +([a-z_0-9]+)\(", (tmp_path / "calls").read_text(), re.MULTILINE))
    assert len(used) > 30
    assert used <= allowed_calls((CONF / "pytunnel@.service").read_text())


def allowed_calls(unit: str) -> set[str]:
    """The system calls that the unit's filter lets through."""
    allowed: set[str] = set()
    for line in re.findall(r"^SystemCallFilter=(.*)$", unit, re.MULTILINE):
        calls = {call for word in line.removeprefix("~").split() for call in members(word)}
        allowed = allowed - calls if line.startswith("~") else allowed | calls
    return allowed


def members(word: str) -> set[str]:
    """A call, or all calls of a group, as systemd itself has them."""
    if not word.startswith("@"):
        return {word}
    lines = run("systemd-analyze", "syscall-filter", word).stdout.splitlines()[1:]
    names = [line.strip() for line in lines if line.strip() and not line.strip().startswith("#")]
    return {call for name in names for call in members(name)}


def test_the_service_s_file_goes_with_its_units() -> None:
    plan = plan_service({}, {"PYTUNNEL_CERT": "/run/node.pem", "PYTUNNEL_CA": "/run/ca.pem"}, CONF / "pytunnel.toml")
    socket_unit = (CONF / "pytunnel@.socket").read_text()
    assert str(plan.tunnels[0].source) == f"systemd:{re.findall('FileDescriptorName=(.*)', socket_unit)[0]}"
    assert "--config=/etc/pytunnel/%i.toml" in (CONF / "pytunnel@.service").read_text()


def test_the_service_is_started_again_however_often_it_fails() -> None:
    text = (CONF / "pytunnel@.service").read_text()
    unit, service = text.partition("[Unit]")[2].split("[Service]")
    assert re.search(r"^StartLimitIntervalSec=0$", unit, re.MULTILINE)
    assert re.search(r"^Restart=on-failure$", service, re.MULTILINE)
    assert "RestartPreventExitStatus" not in service  # a missing file, which may come back, has a wrong option's status


def test_the_units_that_are_enabled_are_those_that_the_service_s_file_needs() -> None:
    texts = ((CONF / "pytunnel@.service").read_text(), (ROOT / "docs" / "sidecar.md").read_text())
    command = re.compile(r"^[# ]+(systemctl enable .*?\.service)\b", re.MULTILINE)
    commands = [found for text in texts for found in command.findall(text)]
    assert 'from = "systemd:' in (CONF / "pytunnel.toml").read_text()
    assert commands == [
        "systemctl enable --now pytunnel@NAME.socket pytunnel@NAME.service",
        "systemctl enable --now pytunnel@sst.socket pytunnel@sst.service",
    ]


def test_draining_fits_into_the_time_that_systemd_gives() -> None:
    seconds = re.findall(r"^TimeoutStopSec=(\d+)s$", (CONF / "pytunnel@.service").read_text(), re.MULTILINE)
    plan = plan_service({}, {"PYTUNNEL_CERT": "x", "PYTUNNEL_CA": "x"}, CONF / "pytunnel.toml")
    assert float(seconds[0]) > plan.tunnels[0].limits.drain


# The container.


def containerfile() -> list[tuple[str, str]]:
    """The instructions with their words."""
    text = re.sub(r"\\\n", " ", (CONF / "Containerfile").read_text())
    lines = [line for line in text.splitlines() if line and not line.startswith("#")]
    return [(word, rest.strip()) for word, _, rest in (line.partition(" ") for line in lines)]


def instructions(word: str) -> list[str]:
    return [rest for name, rest in containerfile() if name == word]


def image_environment() -> dict[str, str]:
    return dict(word.split("=", 1) for rest in instructions("ENV") for word in shlex.split(rest))


def test_the_image_has_two_stages_and_takes_the_environment_of_the_first() -> None:
    assert len(instructions("FROM")) == 2
    assert all("-slim" in base for base in instructions("FROM"))
    assert instructions("COPY")[-1] == "--from=build /opt/pytunnel /opt/pytunnel"


def test_the_image_is_made_from_the_checkout_and_never_from_the_package_of_strangers() -> None:
    (installing,) = instructions("RUN")
    assert re.findall(r"pip install (.*)$", installing) == ["--no-cache-dir ."]
    copied = [name for rest in instructions("COPY")[:-1] for name in rest.split()[:-1]]
    assert all((ROOT / name).exists() for name in copied)
    assert {"pyproject.toml", "src", "README.md"} <= set(copied)


@pytest.mark.skipif(os.environ.get("CI") != "true", reason="gets setuptools from the package index; set CI=true for it")
def test_what_the_image_copies_is_enough_to_install_the_program(tmp_path: Path) -> None:
    for rest in instructions("COPY")[:-1]:
        *names, target = rest.split()
        for name in names:
            if (ROOT / name).is_dir():
                shutil.copytree(ROOT / name, tmp_path / target, ignore=shutil.ignore_patterns("*.egg-info"))
            else:
                shutil.copy(ROOT / name, tmp_path / target)
    pip = [sys.executable, "-m", "pip", "install", "--no-cache-dir", "--no-deps", f"--target={tmp_path}/installed"]
    done = run(*pip, tmp_path, limit=100)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "installed" / "bin" / json.loads(instructions("ENTRYPOINT")[0])[0]).exists()


def test_the_image_runs_as_nobody_in_particular() -> None:
    assert instructions("USER") == [f"{USER}:{USER}"]


@pytest.fixture(scope="module")
def image() -> Iterator[Image]:
    if not can_make_namespaces():
        pytest.skip("needs namespaces: run the tests as root, outside of a confined container")
    with built() as made:
        yield made


@pytest.fixture(scope="module")
def host(image: Image) -> Iterator[Host]:
    with hosts(1) as (made,):
        yield made


def get(image: Image, host: Host, url: str) -> tuple[int, str]:
    """The status and the body of a GET, as the host's kubelet sees them."""
    program = (
        "import sys, urllib.request, urllib.error\n"
        "try: answer = urllib.request.urlopen(sys.argv[1], timeout=10)\n"
        "except urllib.error.HTTPError as error: answer = error\n"
        "print(answer.status, answer.read().decode())"
    )
    done = run(*host.command(image.python, "-c", program, url))
    status, _, body = done.stdout.partition(" ")
    assert status, done.stderr
    return int(status), body.strip()


def test_the_container_runs_on_a_read_only_disk_as_any_user(image: Image, host: Host) -> None:
    own = self_signed(NODE2)
    (image.folder / "node.pem").write_bytes(own.combined_pem())
    (image.folder / "node.pem").chmod(0o600)
    image.give(image.folder / "node.pem")
    (image.folder / "ca.pem").write_bytes(bundle_pem([own]))
    environment = image_environment() | {
        "PYTUNNEL_MODE": "listen",
        "PYTUNNEL_FROM": "0.0.0.0:4444",
        "PYTUNNEL_TO": "127.0.0.1:873",
        "PYTUNNEL_CERT": f"{image.folder}/node.pem",
        "PYTUNNEL_CA": f"{image.folder}/ca.pem",
        "PYTUNNEL_STATUS": "0.0.0.0:9873",
    }
    words = json.loads(instructions("CMD")[0])
    with running(image, host, words, environment) as (program, first):
        program.wait_for('"message": "accepting TLS at 0.0.0.0:4444, ')
        status = dict(line.split(":\t") for line in Path(f"/proc/{first}/status").read_text().splitlines())
        assert status["NSpid"].split()[-1] == "1"
        assert (set(status["Uid"].split()), status["CapBnd"], status["NoNewPrivs"]) == ({str(USER)}, 16 * "0", "1")
        mounts = [line.split() for line in Path(f"/proc/{first}/mountinfo").read_text().splitlines()]
        own_folder = max((place for _, _, _, _, place, *_ in mounts if str(image.folder).startswith(place)), key=len)
        assert {mount[5].partition(",")[0] for mount in mounts if mount[4] in ("/", own_folder)} == {"ro"}
        assert get(image, host, "http://127.0.0.1:9873/readyz") == (200, "ready")
        os.kill(first, signal.SIGTERM)
        assert program.wait() == 0
    assert all(json.loads(line)["time"] for line in program.lines)


# Kubernetes.


def resources() -> dict[str, dict[str, Any]]:
    documents = yaml.safe_load_all((CONF / "kubernetes" / "sidecar.yaml").read_text())
    return {document["kind"]: document for document in documents}


def pod() -> dict[str, Any]:
    spec: dict[str, Any] = resources()["StatefulSet"]["spec"]["template"]["spec"]
    return spec


def sidecar() -> dict[str, Any]:
    container: dict[str, Any] = pod()["initContainers"][0]
    return container


def sidecar_plan(tmp_path: Path) -> ServicePlan:
    file = tmp_path / "pytunnel.toml"
    file.write_text(resources()["ConfigMap"]["data"]["pytunnel.toml"])
    return plan_service({}, {}, file)


@pytest.mark.parametrize("release", KUBERNETES)
@pytest.mark.parametrize("kind", ["ConfigMap", "NetworkPolicy", "Service", "StatefulSet"])
def test_kubernetes_knows_every_field(kind: str, release: str) -> None:
    kubernetes_validate.validate(resources()[kind], release, strict=True)


def test_a_field_that_kubernetes_does_not_know_is_found() -> None:
    resource = resources()["StatefulSet"]
    resource["spec"]["template"]["spec"]["initContainers"][0]["readinesProbe"] = {}
    with pytest.raises(kubernetes_validate.ValidationError):
        kubernetes_validate.validate(resource, KUBERNETES[0], strict=True)


def test_the_sidecar_is_a_native_one_with_all_probes() -> None:
    container = sidecar()
    assert container["restartPolicy"] == "Always"
    paths = {name: container[name]["httpGet"]["path"] for name in ("startupProbe", "readinessProbe", "livenessProbe")}
    assert paths == {"startupProbe": "/readyz", "readinessProbe": "/readyz", "livenessProbe": "/healthz"}


def test_the_sidecar_may_do_nothing_that_it_need_not() -> None:
    context = sidecar()["securityContext"]
    assert context["runAsNonRoot"] is context["readOnlyRootFilesystem"] is True
    assert context["allowPrivilegeEscalation"] is False
    assert context["capabilities"] == {"drop": ["ALL"]}
    assert context["seccompProfile"] == {"type": "RuntimeDefault"}
    assert all(mount["readOnly"] for mount in sidecar()["volumeMounts"])
    assert pod()["automountServiceAccountToken"] is False


def test_every_mount_has_its_volume_and_every_volume_its_source() -> None:
    volumes = {volume["name"]: volume for volume in pod()["volumes"]}
    assert {mount["name"] for mount in sidecar()["volumeMounts"]} == volumes.keys()
    assert volumes["pytunnel-config"]["configMap"]["name"] == resources()["ConfigMap"]["metadata"]["name"]
    assert volumes["pytunnel-tls"]["secret"]["secretName"] == resources()["Certificate"]["spec"]["secretName"]


def test_the_sidecar_s_ports_are_those_of_its_configuration(tmp_path: Path) -> None:
    receive, send = sidecar_plan(tmp_path).tunnels
    assert isinstance(send.target, AllowedTargets)
    ports = {port["name"]: port["containerPort"] for port in sidecar()["ports"]}
    assert f"0.0.0.0:{ports['sst']}" == str(receive.source)
    assert ports["sst"] == send.target.port
    assert {"name": "RSYNC_PROXY", "value": str(send.source)} in pod()["containers"][0]["env"]
    open_ports = [port["port"] for rule in resources()["NetworkPolicy"]["spec"]["ingress"] for port in rule["ports"]]
    assert ports["sst"] in open_ports
    assert 4444 not in open_ports


def test_the_certificate_is_for_both_sides_and_carries_the_names_that_are_asked_for(tmp_path: Path) -> None:
    certificate = resources()["Certificate"]["spec"]
    assert {"server auth", "client auth"} <= set(certificate["usages"])
    _, send = sidecar_plan(tmp_path).tunnels
    assert isinstance(send.target, AllowedTargets)
    assert [pattern.host for pattern in send.target.patterns] == certificate["dnsNames"]


def test_the_pod_ends_later_than_its_sidecar_drains(tmp_path: Path) -> None:
    drain = max(tunnel.limits.drain for tunnel in sidecar_plan(tmp_path).tunnels)
    assert pod()["terminationGracePeriodSeconds"] > drain


def test_the_sidecar_becomes_ready_as_kubernetes_starts_it(image: Image, host: Host) -> None:
    ca = authority("Galera")
    own = issued(ca, "galera", names=["*.db.galera"])
    tls = image.folder / "tls"
    tls.mkdir()
    for name, content in (("tls.crt", own.certificate_pem()), ("tls.key", own.key_pem()), ("ca.crt", bundle_pem([ca]))):
        (tls / name).write_bytes(content)
        (tls / name).chmod(0o440)
    text = resources()["ConfigMap"]["data"]["pytunnel.toml"].replace("/etc/pytunnel-tls", str(tls))
    (image.folder / "pytunnel.toml").write_text(text)
    words = [word.replace("/etc/pytunnel", str(image.folder)) for word in sidecar()["args"]]
    group = sidecar()["securityContext"]["runAsGroup"]
    with running(image, host, words, image_environment(), group=group) as (program, first):
        program.wait_for("status at 0.0.0.0:9873")
        program.wait_for('"accepting plain connections at 127.0.0.1:8873, ')
        ports = {port["name"]: port["containerPort"] for port in sidecar()["ports"]}
        for name in ("startupProbe", "readinessProbe", "livenessProbe"):
            probe = sidecar()[name]["httpGet"]
            url = f"http://{host.address}:{ports[probe['port']]}{probe['path']}"
            assert get(image, host, url)[0] == 200
        os.kill(first, signal.SIGTERM)
        assert program.wait() == 0
