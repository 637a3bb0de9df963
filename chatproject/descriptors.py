"""How many files and connections the system lets this process have, and how many answers that is."""

from __future__ import annotations

import logging
from contextlib import suppress

try:
    import resource
except ImportError:  # Windows, which has no such limit
    resource = None  # type: ignore[assignment]

logger = logging.getLogger(__name__)

# The reader's connection and the model's. Measured: tests/chatproject/test_descriptors.py.
PER_ANSWER = 2
# What a system takes where its hard limit says that there is none.
ENOUGH = (1_048_576, 65_536, 10_240)


def fitting(answers: int) -> int:
    """Return how many answers one process may make at a time: ``answers``, 0 for any number, or fewer that fit.

    An eighth of the descriptors, at least 64, is left for the database, other requests and idle connections.
    """
    hard = _hard_limit()
    if hard is None:
        return answers
    fit = max(1, (hard - max(64, hard // 8)) // PER_ANSWER)
    return min(answers, fit) if answers else fit


def raise_limit() -> None:
    """Raise the soft limit, 1,024 on many systems for programs that cannot do with more, to the hard one."""
    if resource is None:
        return
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    for wanted in (hard,) if hard != resource.RLIM_INFINITY else ENOUGH:
        if soft != resource.RLIM_INFINITY and soft < wanted:
            with suppress(ValueError, OSError):
                resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
                return


def tell_if_fewer(wanted: int) -> None:
    """Say so in the log where fewer answers fit than are asked for (0: any number)."""
    if (allowed := fitting(wanted)) != wanted:
        logger.warning(
            "MAX_ANSWERS_PER_PROCESS is %d instead of %d: an answer takes two open files, and the system allows %s",
            allowed,
            wanted,
            _hard_limit(),
        )


def _hard_limit() -> int | None:
    if resource is None:
        return None
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    return None if hard == resource.RLIM_INFINITY else hard
