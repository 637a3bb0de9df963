"""How many tokens a text has, where nobody counted."""

from __future__ import annotations


def estimate(text: str) -> int:
    """Estimate the tokens of a text: 3.5 ASCII characters make one, other scripts 1.1 a character.

    Exact numbers would need the vocabulary of each model.
    """
    ascii_count = len(text.encode("ascii", "ignore"))
    return 1 + round(ascii_count / 3.5 + (len(text) - ascii_count) * 1.1)
