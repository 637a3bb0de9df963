"""The keys of rows in the chunk log: a worker's number in the high bits, its own count in the low ones.

One loop writes all rows of a worker, so they are committed in the order of their keys: whoever follows an answer asks
for what has higher keys than it has seen, and misses nothing. A key that the database counts up would be taken before
its row is committed, by several processes at a time.
"""

from __future__ import annotations

import secrets

from ..models.querysets import KEYS_OF_A_WORKER

# Keys fit into 63 bits, and so does the end of each worker's range. Zero is for rows from before there were numbers.
NUMBERS = (1 << 63) // KEYS_OF_A_WORKER - 1


class LogKeys:
    """The keys of one worker."""

    def __init__(self) -> None:
        self.draw_number()

    def draw_number(self) -> None:
        """Take a number, perhaps another's: the worker's row, where it is unique, has to tell."""
        self.number = 1 + secrets.randbelow(NUMBERS - 1)
        self.next = self.number * KEYS_OF_A_WORKER

    def take(self, rows: int) -> int:
        """Return the first key of so many in a row."""
        first = self.next
        self.next += rows
        return first
