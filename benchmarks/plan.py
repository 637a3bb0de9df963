"""How much is measured, and for how long."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Plan:
    """Times are in seconds. In each of ``rounds`` every side has its turn with every figure."""

    rounds: int = 3
    warm: float = 1.0
    seconds: float = 4.0
    # Streams that are open at the same time, for each figure.
    at_once: int = 50
    paced: int = 200
    held: int = 200
    # First chunks, of each side and round.
    firsts: int = 200
    # Of the long conversation fewer: each makes it longer.
    firsts_of_long: int = 20
    # The search for the most streams that are held: its steps, and where it ends.
    steps: int = 5
    held_most: int = 2400
    # Memory is measured with so many open streams, and idle sockets.
    in_memory: int = 300
    sockets: int = 1000
    reads: int = 300
    resumes: int = 50
    messages: int = 1_000_000


FULL = Plan()
QUICK = Plan(
    rounds=2,
    seconds=2.0,
    paced=100,
    held=100,
    firsts=100,
    steps=2,
    held_most=400,
    in_memory=100,
    sockets=300,
    reads=100,
    resumes=20,
    messages=50_000,
)
# To see that everything runs; its figures mean nothing.
TINY = Plan(
    rounds=1,
    warm=0.2,
    seconds=0.5,
    at_once=3,
    paced=3,
    held=3,
    firsts=5,
    steps=1,
    held_most=5,
    in_memory=3,
    sockets=5,
    reads=5,
    resumes=2,
    messages=2_000,
)
PLANS = {"full": FULL, "quick": QUICK, "tiny": TINY}
