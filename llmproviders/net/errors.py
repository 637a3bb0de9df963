"""What goes wrong between a request and its answer; ``http`` makes errors of ours of it."""

from __future__ import annotations


class NotConnectedError(OSError):
    """There is no connection: ``reason`` says why, ``was_reached`` whether the host itself is why."""

    def __init__(self, reason: str, *, was_reached: bool = False) -> None:
        super().__init__(reason)
        self.reason = reason
        self.was_reached = was_reached


class ConnectionClosedError(ConnectionError):
    """The connection ended before the answer did."""


class NoAnswerError(ConnectionClosedError):
    """It ended before a byte of the answer came."""


class MalformedAnswerError(Exception):
    """What came is no HTTP, or more of it than an answer needs."""
