"""docs/performance.md: the figures of a run as tables and plots, and which goals they meet."""

from __future__ import annotations

import shutil
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from bench import datadir, far, goals, handshakes, memory, plots, snapshots, startup, streams, websocket
from bench.credentials import KEYS
from bench.results import Results


@dataclass(frozen=True, slots=True)
class Place:
    """Where a report is written: the page, the directory of its pictures, the figures as JSON."""

    page: Path
    pictures: Path
    data: Path


@dataclass(frozen=True, slots=True)
class _Section:
    """One part of the page: a table of `metrics` for `experiments`, and a picture of each of `drawn`."""

    title: str
    text: str
    experiments: Sequence[str]
    metrics: Sequence[str]
    drawn: Sequence[tuple[str, str]] = ()


def for_the_project(root: Path) -> Place:
    """The page that belongs to the documentation of the checkout in `root`."""
    return Place(root / "docs/performance.md", root / "docs/performance", root / "bench/results.json")


def for_trial(root: Path) -> Place:
    """A page that nobody keeps."""
    build = root / "build/bench"
    return Place(build / "performance.md", build / "performance", build / "results.json")


def write(results: Results, place: Place) -> None:
    """Write the page, its pictures and the JSON, in the place of older ones."""
    shutil.rmtree(place.pictures, ignore_errors=True)
    place.pictures.mkdir(parents=True)
    place.data.write_text(results.encode())
    lines = [*_head(results), *_goals(results)]
    for section in _sections(results):
        lines += [f"## {section.title}", "", section.text, "", *_table(results, section), ""]
        for metric, name in section.drawn:
            plots.draw_bars(place.pictures / name, results, section.experiments, metric, section.title)
            lines += [f"![{metric}]({place.pictures.name}/{name})", ""]
    place.page.write_text("\n".join(lines).rstrip("\n") + "\n")


def _sections(results: Results) -> Iterator[_Section]:
    sizes = results.sizes
    yield _Section(
        "Streams (goal 1)",
        f"A client sends {_gigabytes(sizes['stream_bytes'])} through both ends of the tunnel to a sink, all on this "
        "machine. The sink compares every byte with the one that belongs at its place. CPU is that of both ends of the "
        "tunnel. Each tunnel has its own default cipher: AES-128-GCM for pytunnel, AES-256-GCM for the others. The "
        "plain relay is pytunnel without TLS: the floor. With `--workers auto` each end has one process for each "
        "processor (goal 2); here the client, both ends and the sink share them all, so that there is none to gain.",
        [streams.experiment(count) for count in streams.COUNTS],
        (streams.THROUGHPUT, streams.CPU),
        ((streams.THROUGHPUT, "throughput.png"), (streams.CPU, "cpu.png")),
    )
    yield _Section(
        "Inside a WebSocket",
        f"{_gigabytes(sizes['stream_bytes'] // websocket.SHARE)} as above, through the tunnel and through one whose "
        "ends speak `ws://` to each other, without a proxy between them. The protocol wants every byte from the "
        "connecting end masked, and both ends do that in Python. [websocket.md](websocket.md) says when to use it; "
        "there is no figure to reach.",
        [websocket.experiment(count) for count in websocket.COUNTS],
        (streams.THROUGHPUT, streams.CPU),
    )
    yield _Section(
        "New connections (goal 3)",
        f"{sizes['handshakes']} connections, each with a full mutual handshake, a byte there and an answer back. "
        "Both ends and the client share the machine. socat is given `nodelay` here: without it, Nagle's algorithm and "
        "delayed acknowledgements hold each connection up for about 40 ms.",
        [handshakes.experiment(kind, at_once) for kind in KEYS for at_once in handshakes.AT_ONCE],
        (handshakes.RATE,),
        ((handshakes.RATE, "connections.png"),),
    )
    yield _Section(
        "Idle connections (goal 4)",
        f"{sizes['idle_connections']} connections are open and carry nothing, after each has carried 200 kB. Memory is "
        "the sum of the proportional set sizes of all processes of an end; the goal is about the listening one.",
        [memory.EXPERIMENT],
        (memory.LISTENING, memory.CONNECTING, memory.PROCESSES),
        ((memory.LISTENING, "memory.png"),),
    )
    yield _Section(
        "Snapshots (goal 5)",
        f"{_gigabytes(sizes['snapshot_bytes'])} from a donor's datadir to an empty joiner's, both in memory, with real "
        "rsync, four at once for everybody; every file's digest is compared. The clock runs from the flushed tables "
        "until the joiner's server may go on; processor time is that of all programs, rsync's included. “no tunnel” "
        "is pytunnel's plan of streams over plain TCP; socat and stunnel run one rsync for each schema, as the old "
        "scripts do. pytunnel's figures include what only it does: the announcement and the state file.",
        [shape.name for shape in _shapes(results)],
        (snapshots.SECONDS, snapshots.CPU),
        ((snapshots.SECONDS, "snapshots.png"),),
    )
    yield _Section(
        "Far regions (goal 6)",
        f"A snapshot of {sizes['far_bytes'] // 1_000_000} MB, a third of it noise, over a relay: a byte arrives "
        f"{far.DELAY * 1000:.0f} ms after it was sent, each way, all connections together have "
        f"{far.BANDWIDTH // 1_000_000} MB a second, each has {far.WINDOW // 1024} KiB under way. With `delta=1` the "
        "joiner has the data of before, with one page of 20 changed. Processor time is that of both nodes, rsync's "
        "included. A transfer makes some runs of rsync one after another, each of a dozen round trips: these seconds "
        "are the same however much is sent.",
        [far.EXPERIMENT],
        (far.SECONDS, far.RATE, far.SENT, far.CPU),
    )
    yield _Section(
        "Start-up (goal 7)",
        "From the start of the program; Python alone for comparison. There is no figure to reach.",
        [startup.EXPERIMENT],
        (startup.MILLISECONDS,),
    )


def _head(results: Results) -> Iterator[str]:
    machine = results.machine
    yield from (
        "# Performance",
        "",
        "This page is written by the benchmark; to repeat it (it installs what is missing):",
        "",
        f"    {results.command}",
        "",
        "Tunnels are measured in turn within one run, each round beginning with another one. A figure is the median "
        "of the rounds, with the least and the most in brackets. A comparison is the median of the quotients of each "
        "round. Processor time is the kernel's accounting of whole process trees. The raw figures are in "
        "[bench/results.json](../bench/results.json).",
        "",
        f"- {machine.date}, load {machine.load:g} at the start",
        f"- {machine.processor}, {machine.cores} cores, {machine.memory_gb:g} GB",
        f"- {machine.system}, Linux {machine.kernel}",
        f"- {', '.join(f'{name} {version}' for name, version in machine.versions.items())}",
    )
    if results.missing:
        yield f"- not installed here, so left out: {', '.join(results.missing)}"
    yield ""


def _goals(results: Results) -> Iterator[str]:
    rows = []
    for goal in goals.all_goals(results):
        ratio = goal.measured(results)
        verdict = "not measured" if ratio is None else "met" if goal.is_met(ratio) else "**not met**"
        measured = "" if ratio is None else f"{ratio:.2f}"
        rows.append((str(goal.number), f"{goal.experiment}: {goal.metric}", goal.demand, measured, verdict))
    met = sum(row[-1] == "met" for row in rows)
    yield from ("## Goals", "", f"{met} of {len(rows)} are met.", "")
    yield from _rows(("goal", "what", "demanded", "measured", ""), rows)
    yield ""


def _table(results: Results, section: _Section) -> Iterator[str]:
    rows = []
    for experiment in section.experiments:
        for name in results.peers(experiment):
            cells = [_cell(results, experiment, name, metric) for metric in section.metrics]
            rows.append((experiment, name, *cells))
    yield from _rows(("", "", *section.metrics), rows)


def _cell(results: Results, experiment: str, peer: str, metric: str) -> str:
    median = results.median(experiment, peer, metric)
    if median is None:
        return ""
    values = results.values(experiment, peer, metric).values()
    return f"{_figure(median)} ({_figure(min(values))}–{_figure(max(values))})"  # noqa: RUF001 - a range


def _figure(value: float) -> str:
    return f"{value:.0f}" if value >= 100 else f"{value:.3g}"


def _rows(titles: Sequence[str], rows: Iterable[Sequence[str]]) -> Iterator[str]:
    yield f"| {' | '.join(titles)} |"
    yield f"|{' --- |' * len(titles)}"
    yield from (f"| {' | '.join(row)} |" for row in rows)


def _shapes(results: Results) -> Sequence[datadir.Shape]:
    return datadir.shapes(results.sizes["snapshot_bytes"], results.sizes["small_schemas"])


def _gigabytes(size: int) -> str:
    return f"{size / 1e9:g} GB"
