"""Bars by day, stacked by model, as numbers that a template draws as SVG: no script, and no style in an attribute."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from typing import TYPE_CHECKING

from django.utils.formats import date_format, number_format
from django.utils.translation import gettext as _

from ..services.overview import EndpointState, Usage, middle

if TYPE_CHECKING:
    from django_stubs_ext import StrOrPromise

# In units of the drawing.
WIDTH, HEIGHT = 720, 220
LEFT, RIGHT, TOP, BOTTOM = 52, 6, 10, 24
# So many models have a colour of their own; the rest is one.
COLOURS = 5
TICKS = 4
# So many days are named below the bars.
MOST_NAMED = 8


@dataclass(frozen=True, slots=True)
class Bar:
    """What one model has on one day."""

    x: str
    y: str
    width: str
    height: str
    series: int
    hint: str


@dataclass(frozen=True, slots=True)
class Label:
    """A number beside the drawing, or a day below it."""

    x: str
    y: str
    text: str


@dataclass(frozen=True, slots=True)
class Row:
    """What one model has in all days: the legend, and the table beside the drawing."""

    series: int | None
    name: str
    total: str
    share: str


@dataclass(frozen=True, slots=True)
class Chart:
    """One number by day and model."""

    title: StrOrPromise
    total: str
    bars: list[Bar]
    lines: list[Label]
    days: list[Label]
    rows: list[Row]
    # What the last column of the table beside the drawing says.
    beside: str


@dataclass(frozen=True, slots=True)
class Measure:
    """What is drawn: its name, how it is taken of a row, and how it is written."""

    title: StrOrPromise
    value: Callable[[Usage], float]
    write: Callable[[float], str]
    # The drawing is at least so high: there are no halves of answers.
    least: float = 0.0


def whole(value: float) -> str:
    """Write a number of things, in groups of three digits."""
    return str(number_format(round(value), use_l10n=True, force_grouping=True))


def money(value: float) -> str:
    """Write an amount, with as many digits as it needs to be more than nothing."""
    digits = 2 if value >= 1 or not value else 4 if value >= 0.01 else 6
    return str(number_format(value, digits, use_l10n=True, force_grouping=True))


def seconds(value: float) -> str:
    """Write how long something took."""
    return _("%(seconds)s s") % {"seconds": number_format(value, 2, use_l10n=True)}


def short(value: float) -> str:
    """Write a number beside the drawing in few characters."""
    for size, letter in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if value >= size:
            return f"{value / size:g}{letter}"
    return f"{value:g}"


def names_of(usage: Sequence[Usage], other: str) -> dict[str, tuple[int, str]]:
    """Return each model type's series and name: those most asked have one of their own, the same in each chart."""
    asked: dict[str, int] = {}
    for row in usage:
        asked[row.model_type] = asked.get(row.model_type, 0) + row.requests
    ordered = sorted(asked, key=lambda model_type: (-asked[model_type], model_type))
    fits = len(ordered) <= COLOURS + 1
    return {
        model_type: (index, model_type or "-") if fits or index < COLOURS else (COLOURS, other)
        for index, model_type in enumerate(ordered)
    }


def draw(measure: Measure, usage: Sequence[Usage], names: dict[str, tuple[int, str]], first: date, days: int) -> Chart:
    """Return the chart of one number over so many days."""
    sums: dict[tuple[int, int], float] = {}
    series: dict[int, float] = {}
    for row in usage:
        place, number = (row.day - first).days, names[row.model_type][0]
        sums[place, number] = sums.get((place, number), 0) + measure.value(row)
        series[number] = series.get(number, 0) + measure.value(row)
    highest = max((sum(sums.get((day, number), 0) for number in series) for day in range(days)), default=0)
    top = max(measure.least, _round_up(highest))
    titles = {number: name for number, name in names.values()}
    total = sum(series.values())
    return Chart(
        title=measure.title,
        total=measure.write(total),
        bars=_bars(measure.write, sums, titles, first, days, top),
        lines=[_line(top * index / TICKS, top) for index in range(TICKS + 1)],
        days=_days(first, days),
        rows=[
            Row(number, titles[number], measure.write(value), f"{value / total:.0%}" if total else "")
            for number, value in sorted(series.items())
        ],
        beside=_("Share"),
    )


def draw_times(title: str, states: Sequence[EndpointState], first: date, days: int) -> Chart:
    """Return the chart of how long first tokens took: each day's median, and that of each model beside it."""
    of_days: dict[int, list[float]] = {}
    for state in states:
        for day, times in state.first_token_by_day.items():
            of_days.setdefault((day - first).days, []).extend(times)
    medians = {(day, 0): middle(times) or 0.0 for day, times in of_days.items() if 0 <= day < days}
    top = _round_up(max(medians.values(), default=0))
    everything = [time for times in of_days.values() for time in times]
    return Chart(
        title=title,
        total=seconds(middle(everything) or 0.0) if everything else "",
        bars=_bars(seconds, medians, {0: _("all models")}, first, days, top),
        lines=[_line(top * index / TICKS, top) for index in range(TICKS + 1)],
        days=_days(first, days),
        rows=[
            Row(None, state.model_type or "-", seconds(median), seconds(most))
            for state in states
            if (median := state.times[0]) is not None and (most := state.times[1]) is not None
        ],
        beside=_("95 %"),
    )


def _bars(
    write: Callable[[float], str],
    sums: dict[tuple[int, int], float],
    titles: dict[int, str],
    first: date,
    days: int,
    top: float,
) -> list[Bar]:
    step = (WIDTH - LEFT - RIGHT) / days
    heights: dict[int, float] = {}
    bars = []
    for (day, number), value in sorted(sums.items()):
        if value:
            height = max(1.0, (HEIGHT - TOP - BOTTOM) * value / top)
            heights[day] = heights.get(day, 0) + height
            hint = f"{_day(first, day)} · {titles[number]}: {write(value)}"
            x, y = LEFT + day * step + step * 0.15, HEIGHT - BOTTOM - heights[day]
            bars.append(Bar(_number(x), _number(y), _number(step * 0.7), _number(height), number, hint))
    return bars


def _line(value: float, top: float) -> Label:
    return Label(_number(LEFT - 6), _number(HEIGHT - BOTTOM - (HEIGHT - TOP - BOTTOM) * value / top), short(value))


def _days(first: date, days: int) -> list[Label]:
    step = (WIDTH - LEFT - RIGHT) / days
    every = -(-days // MOST_NAMED)
    return [
        Label(_number(LEFT + (place + 0.5) * step), _number(HEIGHT - 7), f"{day.month}/{day.day}")
        for place in range(days - 1, -1, -every)
        if (day := first + timedelta(days=place))
    ]


def _day(first: date, day: int) -> str:
    return str(date_format(first + timedelta(days=day), "MONTH_DAY_FORMAT"))


def _round_up(value: float) -> float:
    """Return the next number whose quarters are short, and whole from 4 on: 4, 8, 12, 16, 20, 40, 80, 120, …"""
    if value <= 0:
        return 1.0
    size = 10.0 ** len(str(int(value))) if value >= 1 else 1.0
    while size > value * 10:
        size /= 10
    return next(part * size for part in (0.12, 0.16, 0.2, 0.4, 0.8, 1.2) if part * size >= value)


def _number(value: float) -> str:
    """Write a coordinate, in no language."""
    return f"{value:.1f}"
