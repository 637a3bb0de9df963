"""Why an answer failed, as people and programs see it: by the code that its row keeps."""

from __future__ import annotations

from django.utils.functional import Promise
from django.utils.translation import gettext
from django.utils.translation import gettext_lazy as _

from .completions import UNANSWERED

# What went wrong while an answer was made, by code (llmproviders.exceptions draws the tree).
ANSWER_ERRORS: dict[str, str | Promise] = {
    "upstream_authentication": _("The model's server refused our key; check the key in the configuration."),
    "upstream_rate_limit": _("The model's server gets too many requests; try again later."),
    "context_length": _("The conversation does not fit into the model's context window; shorten it."),
    "upstream_unpaid": _("The account at the model's server has no credit left, or its contract has ended."),
    "upstream_bad_request": _("The model's server refused the request."),
    "upstream_unavailable": _("The model's server cannot be reached."),
    "local_model_missing": _(
        "The embedded demo model is not installed: run `make install-local-model`, or set LLM_API_URL."
    ),
    "upstream_timeout": _("The model's server did not answer in time."),
    "upstream_protocol": _("The model's server sent something that is no proper answer."),
    "empty_answer": _("The model gave no answer."),
    "upstream_error": _("The model's server reported an error."),
    "interrupted": _("The answer was interrupted because the server stopped; its text so far is kept."),
    "storage_failed": _("The database did not take the answer's text."),
    "internal_error": _("Something went wrong on our side."),
}
# Of `upstream_unavailable`, where there was an answer.
ANSWERED = _("The model's server answered with an error.")
ANSWER_STATUS = {
    "upstream_unpaid": 502,
    "upstream_authentication": 502,
    "upstream_bad_request": 502,
    "upstream_unavailable": 502,
    "upstream_protocol": 502,
    "empty_answer": 502,
    "upstream_error": 502,
    "local_model_missing": 503,
    "upstream_rate_limit": 503,
    "upstream_timeout": 504,
    "context_length": 400,
    "interrupted": 503,
    "storage_failed": 503,
}
# What passes by itself is worth asking for again after so many seconds, where nobody said when.
PASSING = frozenset({"upstream_rate_limit", "interrupted", "storage_failed"})
DEFAULT_RETRY_AFTER = 10


def retry_after_of(code: str, given: int | None) -> int | None:
    """Return the seconds after which to ask again for an answer that failed; None where that would not help."""
    return DEFAULT_RETRY_AFTER if given is None and code in PASSING else given


def describe(code: str, reason: str = "") -> str:
    """Return the sentence for an answer's error, in the active language, with the reason where it says more.

    An upstream's own words stay as they are; our reasons are kept in English and translated here.
    """
    sentence, answered = str(ANSWER_ERRORS.get(code, ANSWER_ERRORS["internal_error"])), reason not in UNANSWERED
    if code == "upstream_unavailable" and answered:
        sentence = str(ANSWERED)
    reason = gettext(reason)
    if reason in ("", sentence):
        return sentence
    return gettext("%(sentence)s (%(reason)s)") % {"sentence": sentence, "reason": reason}
