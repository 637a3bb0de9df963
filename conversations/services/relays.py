"""Answers that are passed on and not stored: which model, within which limits."""

from __future__ import annotations

import json
import uuid
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

from django.utils.translation import gettext_lazy as _

from ..access.rules import Action, Caller, authorize
from ..database import db
from ..engine import completions, engines, prompts
from ..engine.completions import CUSTOM, CompletionRequest, Endpoint
from ..engine.relaying import RelayPlan
from ..engine.said import images_in
from ..exceptions import InvalidRequest, NotFound, UnknownModel
from ..limits import budgets, relays
from ..limits.relays import Begun
from .asking import config_of
from .conversations import get_conversation
from .deletion import while_account_lasts

# The name of what would answer without any.
DEFAULT = "default"
# Of extra fields together, as JSON.
MAX_EXTRA_CHARS = 20_000


@dataclass(frozen=True, slots=True)
class Model:
    """A model that a caller may ask."""

    id: str
    endpoint: Endpoint


def list_models(*, caller: Caller) -> list[Model]:
    """Return the models that ``caller`` may ask; their own as ``custom``, as ``default`` what would answer."""
    authorize(caller, Action.LIST)
    return _models(caller)


def _models(caller: Caller) -> list[Model]:
    found = [Model(endpoint.model_type, endpoint) for endpoint in completions.list_endpoints()]
    config = config_of(caller.user_identifier)
    if own := completions.own_endpoint_of(config):
        found.append(Model(CUSTOM, own))
    if all(model.id != DEFAULT for model in found):
        with suppress(UnknownModel):  # there is none
            found.append(Model(DEFAULT, completions.endpoint_for(asked="", conversation="", config=config)))
    return found


def model_type_of(*, caller: Caller, model: str) -> str:
    """Return the type of the model that is named so; ``""`` for what would answer anyway. Raises ``NotFound``."""
    return "" if model == DEFAULT else _endpoint(caller, model).model_type


def check_stored(
    *, caller: Caller, model: str, session_id: uuid.UUID | None, request: CompletionRequest, messages_field: str
) -> None:
    """Refuse what the model of an answer that is to be stored is known not to take, as ``begin_relay`` does.

    Raises ``NotFound`` for a conversation that there is not, too, and ``UnknownModel``.
    """
    conversation = session_id and get_conversation(caller=caller, session_id=session_id, action=Action.CHAT)
    endpoint = completions.endpoint_for(
        asked=model_type_of(caller=caller, model=model),
        conversation=conversation.model_type if conversation else "",
        config=config_of(caller.user_identifier),
    )
    completions.check_abilities(endpoint, request, images=messages_field, results=messages_field)


def begin_relay(
    *,
    caller: Caller,
    model: str,
    request: CompletionRequest,
    max_tokens: int | None,
    messages_field: str = "messages",
) -> RelayPlan:
    """Reserve what an answer may cost and note that it is being passed on. ``max_tokens`` None: as many as fit.

    Raises ``NotFound`` for a model that there is not, ``ImagesNotSupported`` or ``ToolsNotSupported`` (with
    ``messages_field`` for what the caller calls the messages), ``InvalidRequest`` for attachments, which are not
    looked up here, and for extra fields that are too long, ``TooManyAnswers``, ``BudgetExhausted``, ``ServerBusy`` or
    ``ShuttingDown``.
    """
    authorize(caller, Action.CHAT)
    endpoint = _endpoint(caller, model)
    completions.check_abilities(endpoint, request, images=messages_field, results=messages_field)
    if images_in(request.messages):
        reason = _("An attachment can be shown where the answer is stored: send its image as a data: URL.")
        raise InvalidRequest(errors={messages_field: [reason]})
    fallbacks = completions.fallbacks_of(endpoint, request)
    request = _with_extra_of(request, [endpoint, *fallbacks])
    account = budgets.account_of(caller)
    engines.register_worker()
    worker_id, _key = engines.worker_for_job()
    begun = partial(_begun, request=request, max_tokens=max_tokens)
    with while_account_lasts(caller):
        relay_id = relays.begin(
            account,
            owner=caller.user,
            user_identifier=caller.user_identifier,
            worker_id=worker_id,
            begun=begun(endpoint),
        )
    return RelayPlan(relay_id, endpoint, request, fallbacks, partial(_switched, relay_id, begun))


def _with_extra_of(request: CompletionRequest, endpoints: Sequence[Endpoint]) -> CompletionRequest:
    """Return the request with those extra fields that one of the endpoints takes; each gets its own of them."""
    listed = {name for endpoint in endpoints for name in endpoint.extra_fields}
    extra: dict[str, Any] = {name: value for name, value in request.extra.items() if name in listed}
    left = MAX_EXTRA_CHARS
    for name, value in extra.items():
        left -= len(json.dumps(value))
        if left < 0:
            reason = _("Fields of the model's own have at most %(limit)d characters together.")
            raise InvalidRequest(errors={name: [reason % {"limit": MAX_EXTRA_CHARS}]})
    return replace(request, extra=extra)


async def _switched(relay_id: uuid.UUID, begun: partial[Begun], endpoint: Endpoint) -> None:
    await db.write(relays.switch, relay_id, begun(endpoint))


def _begun(endpoint: Endpoint, *, request: CompletionRequest, max_tokens: int | None) -> Begun:
    asked = replace(request, params=request.params_for(endpoint))
    prompt_tokens = prompts.request_tokens(endpoint, asked)
    room = max(0, endpoint.context_window - prompt_tokens)
    return Begun(
        model_type=endpoint.model_type,
        estimated_prompt_tokens=prompt_tokens,
        max_tokens=min(max_tokens, room) if max_tokens else room,
        input_price=endpoint.input_price,
        output_price=endpoint.output_price,
    )


def _endpoint(caller: Caller, model: str) -> Endpoint:
    """Return the endpoint that is named by its type, or by what exactly one server calls its model."""
    if model == DEFAULT and (endpoint := completions.default_endpoint()):
        return endpoint  # as in `_models`, and reads nothing
    models = _models(caller)
    if found := next((each.endpoint for each in models if each.id == model), None):
        return found
    named = {each.endpoint.model_type: each.endpoint for each in models if each.endpoint.model == model}
    if len(named) != 1:
        raise NotFound(_("There is no such model; GET /v1/models lists them."), code="model_not_found")
    return next(iter(named.values()))
