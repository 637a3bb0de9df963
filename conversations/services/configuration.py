"""A user's model settings: which model answers them, and their own endpoint."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from django.utils.translation import gettext_lazy as _

from .. import conf
from ..access.rules import Action, Caller, authorize
from ..database.transactions import replayed
from ..engine import completions
from ..engine.completions import CUSTOM, Endpoint
from ..exceptions import InvalidRequest, UnknownModel
from ..models import UserConfig
from .deletion import while_account_lasts


@dataclass(frozen=True, slots=True)
class Configuration:
    """What would answer now; ``endpoint`` carries a masked key."""

    endpoint: Endpoint
    presets: list[Endpoint]
    max_tokens: int


def get_configuration(*, caller: Caller, user_id: str | None) -> Configuration:
    """Return what would answer ``caller`` now; raises ``UnknownModel`` where nothing could."""
    authorize(caller, Action.CONFIGURE)
    return _configuration(UserConfig.objects.owned_by(caller.labelled(user_id).user_identifier).first())


def _configuration(config: UserConfig | None) -> Configuration:
    endpoint = completions.shown_endpoint(config)
    own = config.max_tokens if config else None
    return Configuration(
        endpoint=endpoint,
        presets=completions.list_endpoints(),
        max_tokens=own or endpoint.max_tokens or conf.get().MAX_TOKENS,
    )


def update_configuration(
    *, caller: Caller, user_id: str | None, model_type: str, changes: Mapping[str, Any]
) -> Configuration:
    """Choose a model and change the own endpoint. Absent fields stay, empty ones are cleared.

    A new URL without a new key clears the key: the old one was meant for somebody else. Raises
    ``UnknownModel``, or ``InvalidRequest`` when `custom` is chosen and its URL or model is missing.
    """
    authorize(caller, Action.CONFIGURE)
    if model_type not in completions.known_model_types():
        raise UnknownModel.asked()
    whose = caller.labelled(user_id)
    with while_account_lasts(whose):
        return _configuration(_update(whose, model_type, changes))


@replayed
def _update(whose: Caller, model_type: str, changes: Mapping[str, Any]) -> UserConfig:
    configs = UserConfig.objects.owned_by(whose.user_identifier).select_for_update()
    config, _created = configs.get_or_create(user_identifier=whose.user_identifier, defaults={"owner": whose.user})
    changed = {**_with_key_cleared(config, changes), "current_model_type": model_type}
    for name, value in changed.items():
        setattr(config, name, value)
    if model_type == CUSTOM:
        _require_custom_endpoint(config)
    config.save(update_fields=[*changed, "updated_at"])
    return config


def _with_key_cleared(config: UserConfig, changes: Mapping[str, Any]) -> dict[str, Any]:
    """Return the changes, and with a new URL also that of the key: the saved one is not for it."""
    if changes.get("custom_api_url", config.custom_api_url) == config.custom_api_url:
        return dict(changes)
    return {"custom_api_key": "", **changes}


def _require_custom_endpoint(config: UserConfig) -> None:
    missing = [name for name in ("custom_api_url", "custom_model") if not getattr(config, name)]
    if missing:
        raise InvalidRequest(errors={name: [_("Needed for model_type “custom”.")] for name in missing})
