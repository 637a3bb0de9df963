"""Which upstream may be called, and with what: URLs, keys and model names as people give them.

Judged when they are saved and again when they are used, by the policy for whoever set them (``policy.py``).
The checks here need no network; the addresses that a name resolves to are judged where the connection is made
(``dial.py``).
"""

from __future__ import annotations

import logging
import os
import re
from functools import lru_cache
from urllib.parse import SplitResult, urlsplit, urlunsplit

from django.utils.translation import gettext as _
from django.utils.translation import gettext_noop

from ..exceptions import AddressRefused, InvalidEndpoint, UpstreamAuthenticationFailed
from ..failures import UNREACHABLE
from ..fields import ENCRYPTED
from ..types import SetBy
from .addresses import literal
from .policy import PORTS, Policy, is_host_name, plain, policy_for

logger = logging.getLogger("llmproviders")

MAX_URL_CHARS = 2_000
MAX_MODEL_CHARS = 200
_KEY = re.compile(r"[\x21-\x7e]{1,512}")
_ENVIRONMENT_KEY = re.compile(r"env:([A-Za-z_][A-Za-z0-9_]*)")
_BASE_PATH = re.compile(r"(?i)(?:.*/)?(?:v[0-9]+(?:(?:alpha|beta)[0-9]*)?|openai|api|inference|deployments/[^/]+)")
_BRACKETED = re.compile(r"\[[^\]]+\](?::[0-9]+)?")
_NUMBERS = re.compile(r"[0-9.]+")
_URL_CHARS = re.compile(r"[\x21-\x7e]+")
_UNPRINTABLE = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")


def validate_url(url: str, *, set_by: SetBy = "operator") -> str:
    """Return ``url`` if it can be a chat completions URL of that person's.

    Raises ``InvalidEndpoint`` for ``api_url``. What a name resolves to is not looked up.
    """
    parts = _well_formed(url)
    policy = policy_for(set_by)
    if _why_not(parts, policy):
        reason = _("This address may not be called.")
        if policy.set_by == "user":  # one text, so that nothing is told of what is where
            reason = _("A user's own model needs a URL that begins with https://, at a public address.")
        raise InvalidEndpoint("api_url", reason)
    _check_spelling(parts)
    return url


def completions_url(url: str) -> str:
    """Return the URL of the chat completions call, where ``url`` may be the base URL before it.

    A base is a bare host (``/v1`` is added), or a path that ends in a version, ``openai``, ``api``, ``inference`` or
    Azure's ``deployments/NAME``. Every other path is the call's own. A query stays.
    """
    parts = urlsplit(url)
    path = parts.path.rstrip("/")
    if path and not _BASE_PATH.fullmatch(path):
        return url
    return urlunsplit(parts._replace(path=f"{path or '/v1'}/chat/completions"))


def validate_key(key: str) -> str:
    """Return ``key``, or ``env:NAME``, if it can be sent; else raise ``InvalidEndpoint`` for ``api_key``."""
    if not _KEY.fullmatch(key):
        raise InvalidEndpoint(
            "api_key", _("The key has to be 1 to 512 visible ASCII characters, with no white space.")
        )
    if key.startswith(ENCRYPTED):
        raise InvalidEndpoint("api_key", _("The key may not begin with %(prefix)s.") % {"prefix": ENCRYPTED})
    if key.startswith("env:") and not _ENVIRONMENT_KEY.fullmatch(key):
        raise InvalidEndpoint("api_key", _("After env: the key has to name an environment variable."))
    return key


def validate_model_name(name: str) -> str:
    """Return ``name`` if it can name a model; else raise ``InvalidEndpoint`` for ``model``."""
    if not name.strip() or len(name) > MAX_MODEL_CHARS or _UNPRINTABLE.search(name):
        reason = _("The model's name has to be 1 to %(limit)d printable characters.") % {"limit": MAX_MODEL_CHARS}
        raise InvalidEndpoint("model", reason)
    return name


def check_callable(url: str, policy: Policy) -> str:
    """Judge ``url`` at the moment of the call. Raises ``AddressRefused``; the reason goes to the log only."""
    _judge(url, policy)
    return url


@lru_cache(maxsize=1024)
def _judge(url: str, policy: Policy) -> None:
    """Raise ``AddressRefused`` for what may not be called. Only consent is kept: a refusal is logged each time.

    It depends on the two arguments alone: other settings make another policy.
    """
    try:
        parts = _well_formed(url)
        if why := _why_not(parts, policy):
            raise refused(policy, parts.hostname or "-", why)
        _check_spelling(parts)
    except InvalidEndpoint as error:
        raise refused(policy, "-", str(error)) from None


def read_key(key: str, policy: Policy) -> str:
    """Return the key to send: ``key`` itself, or for the operator what the environment holds for ``env:NAME``.

    Raises ``UpstreamAuthenticationFailed`` when that is missing or cannot be sent, and ``AddressRefused`` for
    a key that no user can have saved.
    """
    match = _ENVIRONMENT_KEY.fullmatch(key)
    if policy.set_by == "user" and key and (match or not _KEY.fullmatch(key)):
        raise refused(policy, "-", "a key that cannot be sent")
    value = os.environ.get(match[1], "").strip() if match else key
    if (match and not value) or (value and not _KEY.fullmatch(value)):
        logger.error("upstream call refused: %s holds no usable key", match[1] if match else "the endpoint")
        raise UpstreamAuthenticationFailed(gettext_noop("The key for this model is not set up."))
    return value


def refused(policy: Policy, host: str, why: str) -> AddressRefused:
    """Log why a call is not made, and return the error that says nothing of it."""
    logger.warning("upstream call refused host=%s set_by=%s reason=%s", host, policy.set_by, why)
    return AddressRefused(UNREACHABLE)


def _well_formed(url: str) -> SplitResult:
    if len(url) > MAX_URL_CHARS:
        reason = _("The URL is longer than %(limit)d characters.") % {"limit": MAX_URL_CHARS}
        raise InvalidEndpoint("api_url", reason)
    if not _URL_CHARS.fullmatch(url) or "\\" in url:
        raise InvalidEndpoint("api_url", _("The URL may hold neither white space nor characters outside ASCII."))
    if "#" in url:
        raise InvalidEndpoint("api_url", _("The URL may have no fragment (#)."))
    parts = _split(url)
    if parts.scheme not in PORTS:
        raise InvalidEndpoint("api_url", _("The URL has to begin with http:// or https://."))
    if "@" in parts.netloc:
        raise InvalidEndpoint("api_url", _("The URL may hold no user name and password: use the key."))
    name = plain(parts.hostname or "")
    if "[" in parts.netloc:
        named = _BRACKETED.fullmatch(parts.netloc) is not None and literal(name) is not None
    else:
        named = literal(name) is not None or is_host_name(name)
    if "%" in name or not named:
        raise InvalidEndpoint("api_url", _("The URL has no valid host."))
    return parts


def _check_spelling(parts: SplitResult) -> None:
    """Refuse the spellings of an IPv4 address that the HTTP client does not dial: zeros in front, fewer numbers."""
    host = parts.hostname or ""
    if _NUMBERS.fullmatch(host) and str(literal(host)) != host:
        raise InvalidEndpoint("api_url", _("The URL has no valid host."))


def _why_not(parts: SplitResult, policy: Policy) -> str:
    return policy.why_not_host(parts.scheme, parts.hostname or "", parts.port or PORTS[parts.scheme])


def _split(url: str) -> SplitResult:
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        raise InvalidEndpoint("api_url", _("The URL is malformed: check its host and port.")) from None
    if port == 0 or parts.netloc.endswith(":"):
        raise InvalidEndpoint("api_url", _("The URL's port has to be from 1 to 65535."))
    return parts
