"""The plots of the page, one for each sweep and value."""

from __future__ import annotations

from pathlib import Path

import matplotlib as mpl

from .figures import Figures, Spread
from .page import SWEEPS, TABLE_PLOT, has_rates, plot_file
from .parts.rows import ROWS, TABLE
from .parts.sweep import Sweep, Value
from .run import SYSTEMS

mpl.use("Agg")
# The same figures give the same file.
mpl.rcParams.update({"svg.hashsalt": "sofadb", "svg.fonttype": "none", "font.size": 9.0})

from matplotlib import pyplot  # noqa: E402  # Only now: it looks at what was said just above.
from matplotlib.ticker import FuncFormatter, NullFormatter  # noqa: E402

COLOURS = dict(
    zip((each.name for each in SYSTEMS), ("#c0392b", "#2471a3", "#7d6608", "#616a6b", "#7d3c98"), strict=True)
)
TITLES = {each.name: each.title for each in SYSTEMS}


def draw(figures: Figures, sweep: Sweep, value: Value, directory: Path) -> None:
    """A line for each system, with what lay between its least and its most; no file if nothing was measured."""
    figure, axes = pyplot.subplots(figsize=(6.4, 3.6), layout="constrained")
    for system in sweep.systems:
        spreads = [
            (x, figures.spread(sweep.part, row, system, value.name)) for row, x in sweep.points.items()
        ]
        found = [(x, spread) for x, spread in spreads if spread is not None]
        if found:
            places = [x for x, _ in found]
            label, colour = TITLES[system], COLOURS[system]
            axes.plot(
                places,
                [each.median for _, each in found],
                marker="o",
                label=label,
                color=colour,
                markersize=3.5,
            )
            low, high = [each.low for _, each in found], [each.high for _, each in found]
            axes.fill_between(places, low, high, color=colour, alpha=0.15, linewidth=0)
    if axes.lines:
        if sweep.is_x_logarithmic:
            axes.set_xscale("log")
        if sweep.is_y_logarithmic:
            axes.set_yscale("log")
        axes.set_xticks(list(sweep.points.values()), list(sweep.points))
        axes.xaxis.set_minor_formatter(NullFormatter())
        axes.yaxis.set_major_formatter(FuncFormatter(lambda y, _: f"{y:,.10g}"))
        axes.set(xlabel=sweep.axis, ylabel=value.title + (f" ({value.unit.strip()})" if value.unit else ""))
        axes.grid(alpha=0.3)
        axes.legend(frameon=False)
        figure.savefig(directory / plot_file(sweep, value), metadata={"Date": None})
    pyplot.close(figure)


def draw_table(figures: Figures, directory: Path) -> None:
    """The rates of the main table, as bars."""
    rows = [row for row in ROWS if row.is_rate]
    figure, axes = pyplot.subplots(figsize=(6.4, 3.6), layout="constrained")
    width = 0.8 / len(SYSTEMS)
    for index, system in enumerate(SYSTEMS):
        spreads = [figures.spread(TABLE, row.name, system.name, row.value) for row in rows]
        found = [(place, each) for place, each in enumerate(spreads) if isinstance(each, Spread)]
        if found:
            places = [place + (index - (len(SYSTEMS) - 1) / 2) * width for place, _ in found]
            heights = [each.median for _, each in found]
            errors = [
                [each.median - each.low for _, each in found],
                [each.high - each.median for _, each in found],
            ]
            colour = COLOURS[system.name]
            axes.bar(
                places,
                heights,
                width,
                yerr=errors,
                label=system.title,
                color=colour,
                error_kw={"linewidth": 0.7},
            )
    axes.set_yscale("log")
    axes.set_xticks(range(len(rows)), [row.title.replace(", ", ",\n") for row in rows], fontsize=7)
    axes.yaxis.set_major_formatter(FuncFormatter(lambda y, _: f"{y:,.10g}"))
    axes.set(ylabel="requests/s")
    axes.grid(axis="y", alpha=0.3)
    axes.legend(frameon=False, ncols=3, loc="upper left")
    axes.margins(y=0.25)
    figure.savefig(directory / TABLE_PLOT, metadata={"Date": None})
    pyplot.close(figure)


def draw_all(figures: Figures, directory: Path) -> None:
    """All that there is anything for."""
    if has_rates(figures):
        draw_table(figures, directory)
    for sweep in SWEEPS:
        for value in sweep.values:
            if value.is_plotted:
                draw(figures, sweep, value, directory)
