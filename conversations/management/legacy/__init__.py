"""Brings the conversations of the old FastAPI service over: its tables of conversations, messages, user settings.

``source`` reads the old database, whichever version of the service wrote it, ``values`` makes its values fit,
``importer`` stores what is not here yet.
"""

from .importer import Importer, Tally
from .source import Source, SourceError, open_source

__all__ = ["Importer", "Source", "SourceError", "Tally", "open_source"]
