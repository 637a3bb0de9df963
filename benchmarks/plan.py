"""How much is measured, and for how long."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Plan:
    """Times are in seconds. ``crowds`` are the numbers of paced streams to try."""

    warm: float
    seconds: float
    crowds: list[int] = field(default_factory=lambda: [50, 100, 200, 400])
    firsts: int = 600
    held_steps: int = 5
    held_seconds: float = 5.0
    # No more streams are tried to be held.
    held_most: int = 2400
    at_once: int = 50
    # Memory is measured with so many open streams, and idle sockets.
    in_memory: int = 300
    sockets: int = 1000
    reads: int = 300
    resumes: int = 50
    messages: int = 1_000_000


FULL = Plan(warm=1.5, seconds=6.0)
QUICK = Plan(
    warm=1.0,
    seconds=3.0,
    crowds=[50, 200],
    firsts=200,
    held_steps=2,
    held_seconds=3.0,
    held_most=400,
    in_memory=100,
    sockets=300,
    reads=100,
    resumes=20,
    messages=50_000,
)
# To see that everything runs; its figures mean nothing.
TINY = Plan(
    warm=0.2,
    seconds=0.5,
    crowds=[2, 4],
    firsts=5,
    held_steps=1,
    held_seconds=0.5,
    held_most=5,
    at_once=3,
    in_memory=3,
    sockets=5,
    reads=5,
    resumes=2,
    messages=2_000,
)
PLANS = {"full": FULL, "quick": QUICK, "tiny": TINY}
