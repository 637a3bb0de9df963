"""A chat in a terminal, on the same engine as every other door.

Answers go to standard output, everything else to standard error. Ctrl-C stops a running answer, and at the
prompt it leaves.
"""

from .chat import Chat
from .lines import clean

__all__ = ["Chat", "clean"]
