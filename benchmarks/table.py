"""The one table that a run prints."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

from .load import Rate, percentile
from .plan import Plan
from .reading import Reads
from .rounds import Figures, Turn

COLUMNS = ("sqlite", "socket", "relay", "before", "postgres", "workers", "reference", "litellm", "limit", "direct")
NOTHING = "–"
T = TypeVar("T")
Value = Callable[[Figures], float | None]


@dataclass(frozen=True, slots=True)
class Goal:
    """What a figure is to be for some columns: at least or at most so much."""

    sign: str
    amount: float

    def met(self, value: float) -> bool:
        return value >= self.amount if self.sign == "≥" else value <= self.amount

    def __str__(self) -> str:
        return f"{self.sign} {self.amount:g}"


def least(amount: float) -> Goal:
    return Goal("≥", amount)


def most(amount: float) -> Goal:
    return Goal("≤", amount)


def median(taken: Sequence[T], of: Callable[[T], float]) -> float | None:
    """Return the median over the rounds; ``None`` where nothing was measured."""
    return statistics.median(map(of, taken)) if taken else None


def render(turns: Sequence[Turn], rows: Sequence[Reads], plan: Plan) -> str:
    """Return the table in Markdown. A figure that was not taken is a dash."""
    table = _Table({turn.side.name: turn for turn in turns})
    _write_rates(table, plan)
    _write_held(table)
    _write_firsts(table)
    _write_workers(table)
    _write_memory(table)
    if rows:
        few, many = rows
        table.growth("GET /conversations (50)", few.list, many.list)
        table.growth("GET …/history (10)", few.history, many.history)
    return table.text()


def _write_rates(table: _Table, plan: Plan) -> None:
    table.line(f"sent at once, {plan.at_once} streams: ms of processor a stream", _once, "{:.2f}")
    table.ratio("… streams, × the limit", _once, "limit", {"sqlite": least(0.5), "relay": least(0.6)})
    table.ratio("… × the reference", _once, "reference", {"sqlite": least(10)})
    table.ratio("… × LiteLLM", _once, "litellm", {"sqlite": least(60), "relay": least(60)})
    table.line(
        "… least of the rounds, ms", lambda side: min((one.took for one in side.once), default=0) or None, "{:.2f}"
    )
    table.line("… streams/s by the clock", lambda side: median(side.once, lambda one: one.streams), "{:.0f}")
    table.line("… events a stream", lambda side: median(side.once, lambda one: one.events), "{:.1f}")
    table.line("… failed", lambda side: _failed(side.once), "{:.0f}")
    table.line("… core of the load, %", lambda side: median(side.once, lambda one: 100 * one.load), "{:.0f}")
    table.line("paced at 10 ms: ms of processor a stream", _paced, "{:.2f}")
    table.line("… streams open", lambda side: median(side.paced, lambda one: one.at_once), "{:.0f}")
    table.ratio("… streams, × the limit", _paced, "limit", {"sqlite": least(0.7)})
    table.line("… streams/s by the clock", lambda side: median(side.paced, lambda one: one.streams), "{:.0f}")
    table.line("… events a stream", lambda side: median(side.paced, lambda one: one.events), "{:.1f}")
    table.line("… failed", lambda side: _failed(side.paced), "{:.0f}")


def _once(side: Figures) -> float | None:
    return median(side.once, lambda one: one.took) or None


def _paced(side: Figures) -> float | None:
    return median(side.paced, lambda one: one.took) or None


def _failed(taken: Sequence[Rate]) -> float | None:
    return sum(one.failed for one in taken) if taken else None


def _write_held(table: _Table) -> None:
    table.line("held at 20 chunks/s: µs of processor a chunk", _held, "{:.0f}")
    table.line("… streams open", lambda side: median(side.held, lambda one: one.number), "{:.0f}")
    if base := table.value("limit", _held):
        table.line(
            "… × the limit",
            lambda side: None if (took := _held(side)) is None else took / base,
            "{:.2f}",
            {"sqlite": most(1.3)},
        )
    table.line("… delay of a chunk: p50, ms", lambda side: median(side.held, lambda one: one.p50), "{:.1f}")
    table.line("… p99, ms", lambda side: median(side.held, lambda one: one.p99), "{:.0f}")
    table.line(
        "… rounds in which chunks were late or missing",
        lambda side: sum(not one.good for one in side.held) if side.held else None,
        "{:.0f}",
    )
    bare = table.value("limit", _number)
    table.line("held at most: streams", _number, "{:.0f}", {"sqlite": least(min(1200, 0.9 * bare) if bare else 1200)})
    table.line("… p99 delay of a chunk, ms", lambda side: side.most.p99 if side.most else None, "{:.0f}")
    table.line("… core of the load, %", lambda side: 100 * side.most.load if side.most else None, "{:.0f}")


def _held(side: Figures) -> float | None:
    return median(side.held, lambda one: one.took) or None


def _number(side: Figures) -> float | None:
    return side.most.number if side.most else None


def _write_firsts(table: _Table) -> None:
    plain = table.value("direct", lambda side: percentile(sorted(side.firsts), 0.5)) or 0

    def added(times: Callable[[Figures], list[int]], share: float) -> Value:
        return lambda side: (percentile(sorted(times(side)), share) - plain) / 1000 if times(side) else None

    half = {"sqlite": most(1.5), "relay": most(1.5), "postgres": most(3)}
    table.line("first chunk, added: p50, ms", added(lambda side: side.firsts, 0.5), "{:.1f}", half)
    nearly_all = {"sqlite": most(5), "postgres": most(8)}
    table.line("… p99, ms", added(lambda side: side.firsts, 0.99), "{:.1f}", nearly_all)
    table.line("… with 500 conversations: p50, ms", added(lambda side: side.many, 0.5), "{:.1f}")
    table.line("… p99, ms", added(lambda side: side.many, 0.99), "{:.1f}")
    table.line("… with a prompt of 1,000 messages: p50, ms", added(lambda side: side.long, 0.5), "{:.1f}")


def _write_workers(table: _Table) -> None:
    """Two cores would do twice what two processes do on one, where they need not wait for each other."""
    table.line("sent at once, one account: ms of processor a stream", _one_account, "{:.2f}")
    table.line("… failed", lambda side: _failed(side.one_account), "{:.0f}")
    for name, take, goals in (
        ("two workers on a core each, reckoned: × one, many accounts", _once, {"workers": least(1.8)}),
        ("… one account", _one_account, {}),
    ):
        one, two = table.value("postgres", take), table.value("workers", take)
        if one and two:
            table.only(name, "workers", 2 * one / two, "{:.2f}", goals)


def _one_account(side: Figures) -> float | None:
    return median(side.one_account, lambda one: one.took)


def _write_memory(table: _Table) -> None:
    table.line(
        "memory: idle, MB", lambda side: None if side.idle is None else side.idle / 1e6, "{:.0f}", _each(most(110))
    )
    table.line("… of an open stream, kB", lambda side: _kilo(side.stream), "{:.0f}", _each(most(45)))
    table.line("… of an idle socket, kB", lambda side: _kilo(side.socket), "{:.0f}", _each(most(28)))
    table.line(
        "resume 100,000 characters, ms",
        lambda side: side.resume.took if side.resume else None,
        "{:.1f}",
        _each(most(10)),
    )
    table.line(
        "… its largest event, kB", lambda side: side.resume and side.resume.largest / 1000, "{:.1f}", _each(most(64))
    )


def _each(goal: Goal) -> dict[str, Goal]:
    return {"sqlite": goal, "postgres": goal}


def _kilo(amount: float | None) -> float | None:
    return None if amount is None else amount / 1000


class _Table:
    def __init__(self, turns: Mapping[str, Turn]) -> None:
        self._turns = turns
        self._columns = [name for name in COLUMNS if name in turns]
        titles = [turns[name].side.title for name in self._columns]
        self._lines = [["figure", *titles, "goal", "met"], ["---"] * (len(titles) + 3)]

    def text(self) -> str:
        widths = [max(map(len, column)) for column in zip(*self._lines, strict=True)]
        lines = []
        for line in self._lines:
            cells = [
                cell.ljust(width, cell[:1] if cell == "---" else " ") for cell, width in zip(line, widths, strict=True)
            ]
            lines.append(f"| {' | '.join(cells)} |")
        return "\n".join(lines)

    def value(self, name: str, take: Value) -> float | None:
        """Return a figure of the side that is called so; ``None`` where it was not taken."""
        return take(self._turns[name].figures) if name in self._turns else None

    def line(self, name: str, take: Value, form: str, goals: Mapping[str, Goal] | None = None) -> None:
        """Write a figure of every side, what is asked of some, and whether each of those has it."""
        self._write(name, {column: self.value(column, take) for column in self._columns}, form, goals or {})

    def ratio(self, name: str, take: Value, other: str, goals: Mapping[str, Goal]) -> None:
        """Write how many times as many streams as ``other`` each side has for the same processor time."""
        if base := self.value(other, take):
            self.line(name, lambda side: base / took if (took := take(side)) else None, "{:.2f}", goals)

    def only(self, name: str, column: str, value: float, form: str, goals: Mapping[str, Goal]) -> None:
        self._write(name, {column: value}, form, goals)

    def growth(self, name: str, few: float, many: float) -> None:
        """Write what a read takes among many rows against among few, both in ms."""
        column = self._columns[0]
        name = f"{name}, SQLite: many rows / few = {many:.2f} / {few:.2f} ms"
        self.only(name, column, many / few, "{:.2f}", {column: most(1.2)})

    def _write(self, name: str, values: Mapping[str, float | None], form: str, goals: Mapping[str, Goal]) -> None:
        cells = [NOTHING if (value := values.get(key)) is None else form.format(value) for key in self._columns]
        asked = [
            (goals[key], value) for key in self._columns if key in goals and (value := values.get(key)) is not None
        ]
        wanted = ", ".join(str(goal) for goal, _value in asked)
        met = ", ".join("yes" if goal.met(value) else "no" for goal, value in asked)
        self._lines.append([name, *cells, wanted, met])
