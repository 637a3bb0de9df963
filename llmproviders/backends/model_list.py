"""Which models a server of OpenAI's API has: ``GET …/models``, beside the call of chat completions."""

from __future__ import annotations

import json
from typing import Any
from urllib.parse import urlsplit, urlunsplit

from django.utils.translation import gettext_noop

from .. import failures
from ..exceptions import UpstreamBadRequest, UpstreamProtocolError
from ..net.guard import MAX_MODEL_CHARS, check_callable, completions_url, read_key, refused
from ..net.http import get_whole
from ..net.policy import policy_for
from ..types import Endpoint

CALL, LIST = "/chat/completions", "/models"
MAX_BYTES = 4_194_304
MAX_MODELS = 1_000


async def list_models(endpoint: Endpoint, *, seconds: float) -> list[str]:
    """Return the models' names, sorted; raises ``ProviderError``. Takes ``seconds`` at most."""
    policy = policy_for(endpoint.set_by)
    url = _url(check_callable(endpoint.api_url, policy))
    key = read_key(endpoint.api_key, policy)
    headers = {"Accept": "application/json"} | ({"Authorization": f"Bearer {key}"} if key else {})
    status, answered, body = await get_whole(url, policy=policy, headers=headers, seconds=seconds, max_bytes=MAX_BYTES)
    if 300 <= status < 400 and not policy.tells_reasons:
        raise refused(policy, urlsplit(url).hostname or "-", "a redirect")
    if not 200 <= status < 300:
        raise failures.from_response(status, answered, body, key=key)
    return _names(body, key)


def _url(url: str) -> str:
    parts = urlsplit(completions_url(url))
    if not parts.path.endswith(CALL):
        raise UpstreamBadRequest(gettext_noop("Of this URL it is not known where the server lists its models."))
    return urlunsplit(parts._replace(path=parts.path.removesuffix(CALL) + LIST))


def _names(body: bytes, key: str) -> list[str]:
    try:
        document: Any = json.loads(body)
    except (ValueError, RecursionError):
        raise UpstreamProtocolError(failures.PLAIN[UpstreamProtocolError]) from None
    answered = document
    if isinstance(document, dict):
        given = [document[name] for name in ("data", "models") if name in document]
        document = next((each for each in given if each is not None), None if given else "")
    if not isinstance(document, list):
        error = failures.from_document(answered, key=key) if isinstance(answered, dict) else None
        if document is None and answered is not None and error is None:  # Ollama's, where there is none
            return []
        raise error or UpstreamProtocolError(failures.PLAIN[UpstreamProtocolError])
    names = {_name(item) for item in document[: 10 * MAX_MODELS]}
    return sorted(name for name in names if name)[:MAX_MODELS]


def _name(item: Any) -> str:
    """OpenAI's ``id``, or what else servers call it; nothing for what could not be a model's name in a request."""
    if isinstance(item, dict):
        item = next((item[key] for key in ("id", "name", "model") if isinstance(item.get(key), str)), "")
    is_name = isinstance(item, str) and item.isprintable() and item.strip() and len(item) <= MAX_MODEL_CHARS
    return item if is_name else ""
