"""What people think of answers."""

from __future__ import annotations

from collections.abc import Sequence

from django.utils.translation import gettext_lazy as _

from ..access.rules import Action, Caller
from ..database.transactions import replayed
from ..exceptions import NotFound
from ..models import Feedback, Message
from .branches import get_message
from .deletion import lock


@replayed
def give_feedback(
    *, caller: Caller, message_id: int, rating: int, text: str = "", tags: Sequence[str] = ()
) -> Feedback:
    """Say what is thought of an answer, in place of what was said before; raises ``NotFound``."""
    message = get_message(caller=caller, message_id=message_id, action=Action.CHANGE)
    if message.role != Message.Role.ASSISTANT:
        raise NotFound(_("Only answers can be rated."))
    lock(message.conversation_id)  # as those do who delete
    if not Message.objects.filter(pk=message.pk).exists():
        raise NotFound()
    values = {"rating": rating, "text": text, "tags": list(tags)}
    feedback, _created = Feedback.objects.update_or_create(message=message, defaults=values)
    return feedback


@replayed
def withdraw_feedback(*, caller: Caller, message_id: int) -> None:
    """Take back what was said of an answer; nothing is no error. Raises ``NotFound``."""
    message = get_message(caller=caller, message_id=message_id, action=Action.CHANGE)
    Feedback.objects.filter(message=message).delete()
