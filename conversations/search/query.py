"""What somebody looks for, as they write it: words, ``"words together"``, and ``-words`` that must not be there."""

from __future__ import annotations

import re
from dataclasses import dataclass

from django.utils.translation import gettext_lazy as _

from ..exceptions import InvalidRequest
from .folding import fold

MOST_WORDS = 20
# Quotes as keyboards of several languages have them.
_TOKEN = re.compile('(-?)["“”„＂]([^"“”„＂]*)["“”„＂]?|(-?)(\\S+)')


@dataclass(frozen=True, slots=True)
class Query:
    """Folded words: all of ``words`` have to be in a text, anywhere, and none of ``excluded``."""

    words: tuple[str, ...]
    excluded: tuple[str, ...] = ()

    @classmethod
    def parsed(cls, text: str) -> Query:
        """Return what ``text`` asks for; raises ``InvalidRequest`` where no word is left to look for, or too many."""
        words: dict[str, None] = {}
        excluded: dict[str, None] = {}
        for match in _TOKEN.finditer(text):
            minus, phrase = (match[1], match[2]) if match[2] is not None else (match[3], match[4])
            if match[3] and phrase.startswith("-"):
                minus, phrase = "", f"-{phrase}"  # an option of a command, such as --help
            word = fold(phrase)
            if word.strip():
                (excluded if minus else words)[word] = None
        if not words:
            raise _invalid(_("Write at least one word to look for; -word only excludes."))
        if len(words) + len(excluded) > MOST_WORDS:
            raise _invalid(_("Write at most %(limit)d words.") % {"limit": MOST_WORDS})
        return cls(tuple(words), tuple(excluded))

    def matches(self, folded: str) -> bool:
        """Whether a folded text is one of those that are looked for."""
        return all(word in folded for word in self.words) and not any(word in folded for word in self.excluded)


def _invalid(reason: object) -> InvalidRequest:
    return InvalidRequest(errors={"q": [reason]})
