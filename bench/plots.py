"""The figures as pictures: bars with the spread of the rounds."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import matplotlib

from bench.results import Results

matplotlib.use("agg")

from matplotlib import pyplot

_COLOURS = {
    "pytunnel": "#1f6f8b",
    "pytunnel --workers auto": "#63b0c9",
    "socat": "#c8553d",
    "socat nodelay": "#c8553d",
    "stunnel": "#e0a458",
    "haproxy": "#7d8c5c",
    "plain relay": "#a9a9a9",
    "no tunnel": "#a9a9a9",
}
_GROUP_WIDTH = 0.8


def draw_bars(path: Path, results: Results, experiments: Sequence[str], metric: str, title: str) -> None:
    """One group of bars for each experiment, one bar for each peer: the median, and a line from least to most."""
    names = list(dict.fromkeys(name for experiment in experiments for name in results.peers(experiment)))
    figure, axes = pyplot.subplots(figsize=(3.2 + 0.45 * len(experiments) * len(names), 3.6), layout="constrained")
    width = _GROUP_WIDTH / len(names)
    labelled: set[str] = set()
    for number, name in enumerate(names):
        for group, experiment in enumerate(experiments):
            median = results.median(experiment, name, metric)
            if median is None:
                continue
            values = results.values(experiment, name, metric).values()
            bar = axes.bar(
                group + (number - (len(names) - 1) / 2) * width,
                median,
                width * 0.9,
                yerr=[[median - min(values)], [max(values) - median]],
                capsize=2,
                color=_COLOURS[name],
                label=None if name in labelled else name,
            )
            labelled.add(name)
            axes.bar_label(bar, fmt="{:.3g}", fontsize=7, padding=2)
    axes.set_xticks(range(len(experiments)), [experiment.replace(": ", ":\n") for experiment in experiments])
    axes.tick_params(axis="x", labelsize=8)
    axes.set_ylabel(metric)
    axes.set_title(title, fontsize=10)
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(fontsize=8, frameon=False, loc="center left", bbox_to_anchor=(1, 0.5))
    figure.savefig(path, dpi=110, metadata={"Software": None})
    pyplot.close(figure)
