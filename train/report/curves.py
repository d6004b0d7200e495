"""Figures of the log: one panel per quantity, the learning rate, the time per epoch."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from .history import RATE, SOLVED, TIME, History, Series
from .style import ACCENT, BAND, MAIN, QUIET, embedded, sheet

if TYPE_CHECKING:
    from matplotlib.axes import Axes

SIZE = (4.6, 3.1)
COLOURS = {"training": QUIET, "validation": MAIN, SOLVED: ACCENT}
#: values above which a curve is cut so that one bad epoch does not hide the others: times the median
CUT = 1e4


def learning_curves(history: History) -> list[tuple[str, str]]:
    """(title, image) of each quantity of the log over the epochs, and of the learning rate."""
    figures = [(name, _panel(history, name, series)) for name, series in history.panels().items()]
    if any(math.isfinite(value) and value > 0 for value in history.values(RATE)):
        figures.append(("learning rate", _panel(history, "learning rate", [Series("learning rate", RATE)])))
    return figures


def epoch_times(history: History) -> str:
    """Time per epoch, s."""
    return _panel(history, "time per epoch [s]", [Series("time", TIME)], linear=True)


def _panel(history: History, name: str, series: list[Series], linear: bool = False) -> str:
    from matplotlib.ticker import MaxNLocator

    values = {item.label: history.values(item.column) for item in series}
    logarithmic = not linear and _logarithmic(name, values)
    with sheet(*SIZE) as (figure, axes):
        _stages(axes, history)
        epochs = history.epochs()
        for label, numbers in values.items():
            colour, name_of_first = COLOURS.get(label, MAIN), label
            for stage in history.begun():  # not joined over stages: loss and mode differ
                rows = [row for row in history.rows_of(stage) if math.isfinite(numbers[row])]
                if rows:
                    x, y = [epochs[row] for row in rows], [numbers[row] for row in rows]
                    style = "o-" if len(rows) < 40 else "-"
                    if label == SOLVED:  # the same as validation outside of direct stages: a frame around its points
                        axes.plot(x, y, "D", color=colour, markersize=5, fillstyle="none", label=name_of_first)
                    else:
                        axes.plot(x, y, style, color=colour, markersize=2.6, label=name_of_first)
                    name_of_first = "_"
        if logarithmic:
            axes.set_yscale("log")
        _limits(axes, values, logarithmic)
        if logarithmic:
            _plain_ticks(axes)
        axes.set(xlabel="epoch", xlim=(epochs[0] - 0.5, epochs[-1] + 0.5))
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.set_title(name, pad=16 if len(history.begun()) > 1 else 6)
        if len(values) > 1:
            axes.legend(loc="best")
        return embedded(figure)


def _logarithmic(name: str, values: dict[str, list[float]]) -> bool:
    """Errors, losses and rates; not percentages and counts (which have no unit)."""
    if "[%]" in name or ("[" not in name and name not in ("loss", "learning rate")):
        return False
    finite = [value for numbers in values.values() for value in numbers if math.isfinite(value)]
    return bool(finite) and min(finite) > 0


def _limits(axes: Axes, values: dict[str, list[float]], logarithmic: bool) -> None:
    finite = sorted(value for numbers in values.values() for value in numbers if math.isfinite(value))
    if not finite:
        return
    middle = finite[len(finite) // 2]
    if logarithmic and finite[-1] > CUT * middle:
        top = max(value for value in finite if value <= CUT * middle)
        axes.set_ylim(top=2 * top)
        over = sum(value > CUT * middle for value in finite)
        axes.text(
            0.98, 0.9, f"{over} values above", transform=axes.transAxes, ha="right", va="top", fontsize=7.5, color=QUIET
        )
    if not logarithmic:
        low, high = min(0.0, finite[0]), finite[-1]
        axes.set_ylim(low, high + 0.08 * ((high - low) or 1.0))


def _plain_ticks(axes: Axes) -> None:
    """Numbers as they are written, and enough of them where less than two decades are shown."""
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

    low, high = axes.get_ylim()
    decades = math.log10(high / low)
    plain = FuncFormatter(lambda value, place: f"{value:g}")
    axes.yaxis.set_major_formatter(plain)
    if decades < 2:
        steps = (2, 5) if decades > 0.8 else (1.5, 2, 3, 4, 5, 6, 8)
        axes.yaxis.set_minor_locator(LogLocator(subs=steps, numticks=20))
        axes.yaxis.set_minor_formatter(plain)
    else:
        axes.yaxis.set_minor_formatter(NullFormatter())


def _stages(axes: Axes, history: History) -> None:
    """Bands of the stages with their names; every second one is shaded."""
    begun = history.begun()
    for number, stage in enumerate(begun):
        first, last = stage.first_epoch - 0.5, history.epochs()[history.rows_of(stage)[-1]] + 0.5
        if number % 2:
            axes.axvspan(first, last, color=BAND, zorder=0, linewidth=0)
        if number:
            axes.axvline(first, color=QUIET, linewidth=0.8, linestyle=(0, (4, 3)), zorder=1)
        if len(begun) > 1:
            axes.annotate(
                stage.name,
                (first, 1.0),
                xycoords=("data", "axes fraction"),
                xytext=(2, 3),
                textcoords="offset points",
                fontsize=7.5,
                color=QUIET,
            )
