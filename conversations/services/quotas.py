"""What a caller may use and has used, to be shown."""

from __future__ import annotations

from typing import Any

from .. import conf
from ..access.credentials import Connection
from ..access.rules import Action, Caller, authorize
from ..limits import allowances, budgets
from ..limits.attachments import used_by
from ..limits.rates import window_of
from ..models import Generation, Relay

Quotas = dict[str, dict[str, Any] | None]


def quotas_of(caller: Caller, connection: Connection) -> Quotas:
    """Return limits and use of ``caller``, None for what is not limited: on an open server all but attachments."""
    authorize(caller, Action.LIST)
    attachments = _attachments(caller)
    if caller.user is None or not conf.get().REQUIRE_LOGIN:
        return {"requests": None, "answers": None, "tokens": None, "attachments": attachments}
    limits = allowances.look_up(caller.user)
    return {
        "requests": _requests(caller, connection),
        "answers": _answers(caller, limits.max_answers),
        "tokens": _tokens(budgets.budgets_of(budgets.wanted_by(caller, limits), budgets.today())),
        "attachments": attachments,
    }


def _requests(caller: Caller, connection: Connection) -> dict[str, Any] | None:
    window = window_of(connection, caller)
    if window is None:
        return None
    return {"limit": window.limit, "remaining": window.remaining, "resets_in": window.reset}


def _answers(caller: Caller, limit: int) -> dict[str, Any] | None:
    if not limit:
        return None
    # As `budgets.Account` counts them: those that are passed on too, and those that others are not shown.
    stored = Generation.objects.belonging_to(caller).running().count()
    return {"limit": limit, "running": stored + Relay.objects.for_owner(caller).count()}


def _attachments(caller: Caller) -> dict[str, Any]:
    settings = conf.get()
    used, files = used_by(caller.user_identifier)
    return {
        "limit": settings.ATTACHMENT_BYTES_PER_OWNER or None,
        "bytes": used,
        "files_limit": settings.ATTACHMENTS_PER_OWNER or None,
        "files": files,
    }


def _tokens(found: list[budgets.OpenBudget]) -> dict[str, Any] | None:
    if not found:
        return None
    tightest = min(found, key=lambda budget: budget.limit - budget.spent)
    return {"limit": tightest.limit, "spent": tightest.spent, "resets_at": budgets.resets_at()}
