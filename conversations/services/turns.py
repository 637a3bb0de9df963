"""What an answer becomes with tools: it asks for calls, what came of them is said, and the next answer goes on."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from django.utils.translation import gettext_lazy as _

from ..exceptions import InvalidRequest
from ..models import Conversation, Message, ToolResult, calls_of
from .beginnings import Said
from .branches import branch
from .generations import StoredAnswer


def turn_before(answer: StoredAnswer) -> list[Message]:
    """Return the answers and results between the user's message and an answer, oldest first."""
    turn: list[Message] = []
    if answer.question.role == Message.Role.TOOL:
        for message in branch(answer.question.pk, answer.message.conversation):
            if message.role == Message.Role.USER:
                break
            turn.append(message)
    return turn[::-1]


def last_answer(answer: Message) -> Message:
    """Return the answer in which its turn ends, where nothing else came of one: the newest way."""
    *_before, last = _onward(answer)
    return last


def answer_asking(answer: Message, results: Sequence[ToolResult]) -> Message | None:
    """Return the last answer of its turn, from this one on, that asked for calls of which these are results."""
    return next((each for each in reversed(list(_onward(answer))) if results_to(each, results)), None)


def results_to(answer: Message, results: Sequence[ToolResult]) -> list[ToolResult]:
    """Return the results of the calls that an answer asked for, in their order; of each call the last."""
    given = {result.id: result for result in results}
    return [given[call[0]] for call in calls_of(answer) if call[0] in given]


def check_results(conversation: Conversation, said: Said) -> None:
    """Refuse results of calls that the answer before them did not ask for, by ``InvalidRequest``."""
    leaf_id = conversation.active_leaf_id
    answer = conversation.messages.filter(pk=leaf_id).first() if leaf_id else None
    asked = {call[0] for call in calls_of(answer)} if answer else set()
    given = [part["id"] for part in said.parts or ()]
    if not asked.issuperset(given) or len(set(given)) < len(given):
        raise InvalidRequest(
            errors={"tool_results": [_("Give one result for each call that the answer before asked for, by its id.")]}
        )


def _onward(answer: Message) -> Iterator[Message]:
    """Yield an answer and those that go on with what came of its calls."""
    following: Message | None = answer
    while following is not None:
        yield following
        answers = Message.objects.filter(parent__parent=following, parent__role=Message.Role.TOOL)
        following = answers.order_by("-pk").first() if calls_of(following) else None
