"""How a snapshot looks to people, and to Prometheus."""

from __future__ import annotations

import io
import math
import re
from dataclasses import replace
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families
from rich.console import Console

from pytunnel.status.display import draw, duration
from pytunnel.status.metrics import format_metrics
from pytunnel.status.snapshot import DRAINING, Outcome, Snapshot
from tests.support.snapshots import CERTIFICATE, CONNECTION, NOW, SNAPSHOT, TRANSFER, TRUSTED, TUNNEL


def text_of(snapshot: Snapshot, width: int = 240) -> str:
    console = Console(file=io.StringIO(), width=width, color_system=None)
    console.print(draw(snapshot))
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


def test_the_first_line_says_whether_it_is_ready() -> None:
    assert text_of(SNAPSHOT).splitlines()[0].rstrip() == "pytunnel 0.1, running for 1 d: ready"
    first, second, *_ = text_of(replace(SNAPSHOT, tunnels=(replace(TUNNEL, state=DRAINING),))).splitlines()
    assert (first.rstrip()[-9:], second.strip()) == ("NOT READY", "sst: draining")


def test_tunnels_and_connections_are_rows() -> None:
    rows = [line.split() for line in text_of(SNAPSHOT).splitlines()]
    (tunnel,) = [row for row in rows if row[:2] == ["sst", "127.0.0.1:4444"]]
    assert tunnel[2:8] == ["127.0.0.1:873", "listening", "1", "7", "2", "0"]
    assert " ".join(tunnel[8:]) == "8.6 MiB, 976.6 KiB/s 2.9 KiB, 20 bytes/s 2026-11-18"
    (connection,) = [row for row in rows if row[:2] == ["sst", "node1.my.cluster"]]
    assert " ".join(connection[4:]) == ("TLSv1.3 TLS_AES_256_GCM_SHA384 4.8 MiB, 976.6 KiB/s 2.0 KiB, 20 bytes/s 5 s")


def words_of(text: str) -> set[str]:
    return set(text.split())


@pytest.mark.parametrize("name", ["sst", "tunnel-1"])
def test_eighty_columns_cut_no_word_and_leave_out_what_matters_least(name: str) -> None:
    snapshot = replace(SNAPSHOT, tunnels=(replace(TUNNEL, name=name),))
    narrow, wide = text_of(snapshot, 80), text_of(snapshot)
    assert max(len(line.rstrip()) for line in narrow.splitlines()) <= 80
    assert words_of(narrow) < words_of(wide)
    assert {name, "127.0.0.1:4444", "listening", "failed", "node1.my.cluster", "2026-11-18"} <= words_of(narrow)


def test_a_place_that_is_too_long_for_a_terminal_is_folded_and_whole() -> None:
    path = f"unix:/{90 * 'q'}"
    text = text_of(replace(SNAPSHOT, tunnels=(replace(TUNNEL, target=path, connections=()),)), 80)
    assert text.count("q") == 90
    assert {"sst", "127.0.0.1:4444", "listening"} <= words_of(text)


def test_a_transfer_is_told_with_its_share_and_the_time_left() -> None:
    text = text_of(replace(SNAPSHOT, transfer=TRANSFER))
    assert (
        "state transfer as joiner with node1.my.cluster, for 1 min: "
        "received 1.0 GiB of 2.0 GiB (50%), 1.0 MiB/s, 1024 s left"
    ) in text


def test_each_part_begins_on_a_line_of_its_own() -> None:
    lines = [line.rstrip() for line in text_of(replace(SNAPSHOT, transfer=TRANSFER)).splitlines()]
    kinds = [(line.split() or [""])[0] for line in lines]
    assert [kind for kind in kinds if not kind.startswith("━")] == [
        *("pytunnel", "state", "", "tunnel", "sst", "", "connection", "sst"),
    ]
    assert len(kinds) == 9


def test_a_transfer_of_unknown_size_is_told_without_a_share() -> None:
    text = text_of(replace(SNAPSHOT, transfer=replace(TRANSFER, role="donor", total=None, files=None)))
    assert "sent 1.0 GiB so far, 1.0 MiB/s" in text


def test_nothing_of_a_peer_s_name_reaches_the_terminal_as_a_command() -> None:
    evil = replace(CONNECTION, peer="\x1b[2J[red]evil[/red]\nroot")
    text = text_of(replace(SNAPSHOT, tunnels=(replace(TUNNEL, connections=(evil,)),)))
    assert "\\x1b[2J[red]evil[/red]\\nroot" in text
    assert "\x1b" not in text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0, "0 s"), (-1, "0 s"), (59.9, "59 s"), (60, "1 min"), (3725, "1 h 2 min"), (90061, "1 d 1 h"), (86401, "1 d")],
)
def test_a_time_has_its_two_largest_units(seconds: float, text: str) -> None:
    assert duration(seconds) == text


# Prometheus.


def samples_of(snapshot: Snapshot) -> dict[tuple[str, frozenset[tuple[str, str]]], float]:
    text = format_metrics(snapshot).decode()
    return {
        (sample.name, frozenset(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def test_handshakes_are_a_histogram_whose_classes_add_up() -> None:
    samples = samples_of(SNAPSHOT)
    buckets = {
        float(dict(labels)["le"]): value
        for (name, labels), value in samples.items()
        if name == "pytunnel_handshake_seconds_bucket"
    }
    assert (buckets[0.005], buckets[10.0], buckets[math.inf]) == (3, 3, 4)
    assert list(buckets.values()) == sorted(buckets.values())
    assert samples["pytunnel_handshake_seconds_sum", frozenset({("tunnel", "sst")})] == 25.5


def test_each_certificate_has_its_time() -> None:
    snapshot = replace(SNAPSHOT, tunnels=(replace(TUNNEL, certificates=(CERTIFICATE, TRUSTED)),))
    found = {
        (dict(labels)["kind"], dict(labels)["serial"]): value
        for (name, labels), value in samples_of(snapshot).items()
        if name == "pytunnel_certificate_expiry_timestamp_seconds"
    }
    assert found == {("own", "2a"): NOW + 3600, ("trusted", "2b"): NOW + 7200}


def test_names_are_data_whatever_they_hold() -> None:
    evil = 'node"} 1\nforged_metric 7\\'
    tunnel = replace(TUNNEL, certificates=(replace(CERTIFICATE, subject=evil),), outcomes=(Outcome("failed", "x", 1),))
    names = {name for name, _ in samples_of(replace(SNAPSHOT, tunnels=(tunnel,)))}
    assert not any(name.startswith("forged") for name in names)
    subjects = {dict(labels).get("subject") for _, labels in samples_of(replace(SNAPSHOT, tunnels=(tunnel,)))}
    assert evil in subjects


def test_a_transfer_has_its_bytes() -> None:
    samples = samples_of(replace(SNAPSHOT, transfer=TRANSFER))
    assert samples["pytunnel_transfer_bytes_total", frozenset()] == 2**30
    assert samples["pytunnel_transfer_expected_bytes", frozenset()] == 2**31
    assert not any("transfer" in name for name, _ in samples_of(SNAPSHOT))


def test_the_documentation_names_every_metric() -> None:
    text = (Path(__file__).parents[2] / "docs" / "sidecar.md").read_text()
    names = {re.sub("_(bucket|sum|count)$", "", name) for name, _ in samples_of(replace(SNAPSHOT, transfer=TRANSFER))}
    assert [name for name in sorted(names) if f"`{name}`" not in text] == []


def test_nothing_of_this_process_itself_is_told() -> None:
    assert {name.partition("_")[0] for name, _ in samples_of(SNAPSHOT)} == {"pytunnel"}


def test_readiness_is_a_number() -> None:
    draining = replace(SNAPSHOT, tunnels=(replace(TUNNEL, state=DRAINING),))
    assert [samples_of(each)["pytunnel_ready", frozenset()] for each in (SNAPSHOT, draining)] == [1, 0]
