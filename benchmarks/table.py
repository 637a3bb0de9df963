"""The one table that a run prints."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

from .load import Held, Rate, percentile
from .reading import Reads, Resume

COLUMNS = ("sqlite", "postgres", "relay", "reference", "litellm", "limit", "direct")
OURS, RELAYS = COLUMNS[:2], COLUMNS[2:3]
NOTHING = "–"


@dataclass
class Figures:
    """What was measured of one side; ``firsts`` are times in microseconds, ``memory`` and ``sockets`` bytes."""

    title: str
    once: Rate
    paced: Rate
    best: Rate
    firsts: list[int]
    held: Held
    memory: float | None = None
    sockets: float | None = None
    resume: Resume | None = None


Value = Callable[[Figures], float | None]
Table = list[list[str]]


def render(figures: dict[str, Figures], rows: list[Reads]) -> str:
    """Return the table in Markdown. A figure that was not taken is a dash."""
    writer = _Writer(figures)
    writer.rates("sent at once", lambda side: side.once, {"reference": 4.0, "litellm": 20.0, "limit": 0.25})
    writer.rates("paced, 50 streams", lambda side: side.paced, {"litellm": 10.0, "limit": 0.5})
    writer.rates("paced, the best number of streams", lambda side: side.best, {"litellm": 10.0, "limit": 0.5})
    firsts = writer.firsts()
    writer.line("first chunk, added: p50, ms", lambda side: firsts(side, 0.5), "{:.1f}", most=5.0)
    writer.line("first chunk, added: p99, ms", lambda side: firsts(side, 0.99), "{:.1f}", most=12.0)
    writer.line("streams held at 20 chunks/s", lambda side: side.held.number, "{:.0f}", least=1000.0)
    writer.line("… p99 delay of a chunk, ms", lambda side: side.held.p99 if side.held.number else None, "{:.0f}")
    writer.line("… core of the server, %", lambda side: 100 * side.held.server, "{:.0f}")
    writer.line("… core of the load, %", lambda side: 100 * side.held.load, "{:.0f}")
    writer.line("memory of an open stream, kB", lambda side: _kilo(side.memory), "{:.0f}", most=110.0)
    writer.line("memory of an idle socket, kB", lambda side: _kilo(side.sockets), "{:.0f}", most=45.0)
    writer.line(
        "resume 100,000 characters, ms", lambda side: side.resume.took if side.resume else None, "{:.1f}", most=10.0
    )
    writer.line(
        "its largest event, kB", lambda side: side.resume.largest / 1024 if side.resume else None, "{:.1f}", most=64.0
    )
    writer.relays()
    if rows:
        few, many = rows
        writer.growth("GET /conversations (50)", few.list, many.list)
        writer.growth("GET …/history (10)", few.history, many.history)
    return writer.text()


def _share(side: Figures, other: Figures) -> float:
    return side.once.of_a_core / other.once.of_a_core


def _kilo(amount: float | None) -> float | None:
    return None if amount is None else amount / 1024


class _Writer:
    def __init__(self, figures: dict[str, Figures]) -> None:
        self._figures = figures
        titles = [figures[name].title if name in figures else f"({name})" for name in COLUMNS]
        self._table: Table = [["figure", *titles, "goal", "met"], ["---"] * (len(COLUMNS) + 3)]

    def text(self) -> str:
        widths = [max(map(len, column)) for column in zip(*self._table, strict=True)]
        lines = []
        for line in self._table:
            cells = [
                cell.ljust(width, cell[:1] if cell == "---" else " ") for cell, width in zip(line, widths, strict=True)
            ]
            lines.append(f"| {' | '.join(cells)} |")
        return "\n".join(lines)

    def rates(self, name: str, take: Callable[[Figures], Rate], goals: dict[str, float]) -> None:
        """Write streams/s, what lies beside them, and what they are of others'."""
        self.line(f"{name}: streams/s", lambda side: take(side).streams, "{:.1f}")
        self.line("… of a whole core", lambda side: take(side).of_a_core if take(side).server else None, "{:.1f}")
        self.line("… streams open", lambda side: take(side).at_once, "{:.0f}")
        self.line("… events a stream", lambda side: take(side).events, "{:.1f}")
        self.line("… failed", lambda side: take(side).failed, "{:.0f}")
        self.line("… core of the server, %", lambda side: 100 * take(side).server, "{:.0f}")
        self.line("… core of the load, %", lambda side: 100 * take(side).load, "{:.0f}")
        for other, goal in goals.items():
            if other in self._figures:
                self._ratio(take, self._figures[other], goal)

    def _ratio(self, take: Callable[[Figures], Rate], other: Figures, goal: float) -> None:
        base = take(other).of_a_core
        self.line(
            f"… × {other.title}",
            lambda side: take(side).of_a_core / base if take(side).server else None,
            "{:.2f}",
            least=goal,
        )

    def relays(self) -> None:
        """Write what is asked of answers that are passed on."""
        for name, goal in {"litellm": 60.0, "limit": 0.6}.items():
            if other := self._figures.get(name):
                share = partial(_share, other=other)
                self.line(f"passed on, sent at once: × {other.title}", share, "{:.2f}", least=goal, only=RELAYS)
        firsts = self.firsts()
        self.line(
            "passed on, first chunk, added: p50, ms",
            lambda side: firsts(side, 0.5),
            "{:.1f}",
            most=1.5,
            only=RELAYS,
        )

    def firsts(self) -> Callable[[Figures, float], float]:
        plain = percentile(self._figures["direct"].firsts, 0.5)
        return lambda side, share: (percentile(side.firsts, share) - plain) / 1000

    def line(
        self,
        name: str,
        take: Value,
        form: str,
        *,
        least: float | None = None,
        most: float | None = None,
        only: Sequence[str] = COLUMNS,
    ) -> None:
        values = {key: take(side) for key, side in self._figures.items() if key in only}
        cells = [form.format(value) if (value := values.get(key)) is not None else NOTHING for key in COLUMNS]
        goal = f"≥ {least:g}" if least is not None else f"≤ {most:g}" if most is not None else ""
        met = [
            "yes" if (least is None or value >= least) and (most is None or value <= most) else "no"
            for key in (OURS if only is COLUMNS else only)
            if goal and (value := values.get(key)) is not None
        ]
        self._table.append([name, *cells, goal, ", ".join(met)])

    def growth(self, name: str, few: float, many: float) -> None:
        """Write what a read takes among many rows against among few, both in ms."""
        cells = [f"{many:.2f} / {few:.2f} ms = {many / few:.2f}", *[NOTHING] * (len(COLUMNS) - 1)]
        self._table.append([f"{name}: many rows / few", *cells, "≤ 1.2", "yes" if many / few <= 1.2 else "no"])
