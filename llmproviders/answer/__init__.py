"""The reading of one answer to a chat completion: bytes in, deltas, the end, the counts or an error out. No I/O.

::

    bytes ── framing ──► events ── reader ──► deltas … CompletionFinished, or a ProviderError
             SSE or JSON?          │ chunk: what one JSON document says, in any server's dialect
                                   │ gathered: one delta of what came together; unopened: a thought that only ends
                             │ pattern: events that differ in their text only are not parsed
                                   │ tool_calls: calls of tools, one after the other; messages: Anthropic's reader
                             └ ending: what a finish reason means, and an answer that says nothing

What servers do differently is data in ``chunk`` and ``ending``, or a small rule there.
"""

from .framing import AnswerFraming
from .messages import MessagesReader
from .reader import AnswerReader

__all__ = ["AnswerFraming", "AnswerReader", "MessagesReader"]
