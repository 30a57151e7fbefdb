"""A cluster changes its CA without an outage, by `pytunnel certs`, with a state transfer at each step."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from lab.hosts import Host
from lab.mariadb import Node, NodeSettings
from lab.optionfile import Options
from tests.cluster.harness import Cluster, assert_joined, bootstrap_with_data, errors

LIMIT = 60.0
JOINER_LIMIT = 25.0


@dataclass(frozen=True, slots=True)
class Files:
    """The certificates of a cluster of two, made and judged by the program that people use."""

    cluster: Cluster
    directory: Path

    def certs(self, *words: str, status: int = 0) -> str:
        """Run `pytunnel certs`; its output."""
        command = [sys.executable, "-m", "pytunnel", "certs", *words]
        ran = subprocess.run(command, cwd=self.directory, capture_output=True, text=True, check=False, timeout=LIMIT)
        assert ran.returncode == status, ran.stdout + ran.stderr
        return ran.stdout

    def issue(self, authority: str, host: Host) -> None:
        """A certificate of that CA for the host, in place of the one that it had."""
        words = ["node", host.name, "--ip", host.address, "--combined", "--out", self.stem(host), "--force"]
        self.certs(*words, "--ca", f"{authority}.crt", "--ca-key", f"{authority}.key")
        self.cluster.site.account.own(self.directory / f"{self.stem(host)}.pem")

    def trust(self, host: Host, *authorities: str) -> None:
        """The CAs that the host trusts from now on."""
        names = [f"{authority}.crt" for authority in authorities]
        self.certs("bundle", *names, "--out", f"{self.stem(host)}-ca.crt", "--force")

    def options(self, host: Host) -> Options:
        stem = self.directory / self.stem(host)
        return {"tca": f"{stem}-ca.crt", "tcert": f"{stem}.pem"}

    def rotate(self, *hosts: Host, status: int) -> str:
        """What `certs rotate` says of the cluster as it is now."""
        cas = [word for host in hosts for word in ("--ca", f"{self.stem(host)}-ca.crt")]
        certificates = [f"{self.stem(host)}.crt" for host in hosts]
        return self.certs("rotate", "--old", "old.crt", "--new", "new.crt", *cas, *certificates, status=status)

    @staticmethod
    def stem(host: Host) -> str:
        return f"node-{host.address}"


@contextmanager
def joining(files: Files, host: Host) -> Iterator[Node]:
    """A fresh node on the host, with the host's files as they are now."""
    settings = NodeSettings(host=host, sst=files.options(host))
    with Node(files.cluster.site, files.cluster.name, "joiner", settings) as node:
        yield node


def before_the_change(cluster: Cluster) -> tuple[Files, Host, Host]:
    """Two hosts with certificates of the old CA, and a new CA that nobody trusts yet."""
    directory = cluster.site.directory / f"{cluster.name}-rotation"
    directory.mkdir()
    files = Files(cluster, directory)
    first, second = cluster.hosts[:2]
    for authority in ("old", "new"):
        files.certs("ca", f"{authority} CA", "--out", authority)
    for host in (first, second):
        files.issue("old", host)
        files.trust(host, "old")
    return files, first, second


def test_a_ca_is_changed_in_three_steps_with_a_transfer_at_each(cluster: Cluster) -> None:
    files, first, second = before_the_change(cluster)
    donor = bootstrap_with_data(cluster, NodeSettings(host=first, sst=files.options(first)))

    def assert_transfer() -> None:
        with joining(files, second) as joiner:
            joiner.join(donor)
            assert_joined(donor, joiner)

    assert_transfer()
    for host in (first, second):  # step 1: one node after the other trusts both
        files.trust(host, "old", "new")
        assert_transfer()
    files.rotate(first, second, status=1)
    for host in (second, first):  # step 2: one node after the other gets its new certificate
        files.issue("new", host)
        assert_transfer()
    files.rotate(first, second, status=1)
    for host in (first, second):  # step 3: one node after the other forgets the old CA
        files.trust(host, "new")
        assert_transfer()
    files.rotate(first, second, status=0)


def test_a_new_certificate_before_all_trust_its_ca_is_seen_before_it_fails(cluster: Cluster) -> None:
    files, first, second = before_the_change(cluster)
    files.issue("new", second)
    files.rotate(first, second, status=2)
    donor = bootstrap_with_data(cluster, NodeSettings(host=first, sst=files.options(first)))
    with joining(files, second) as joiner:
        joiner.start_joining(donor)
        joiner.wait_until_ended(JOINER_LIMIT)
    assert any("can't be trusted" in text for text in errors(donor))
