"""The verbs. Keyword arguments only; each is one transaction and runs on a database thread (``db.write``)."""

from ..engine.producer import ReplyOptions
from ..models import ToolResult
from .beginnings import MOST_SAID, Beginning, Said, by_model, by_tools, by_user
from .branches import ACTIVE_LEAF, branch, history, list_messages
from .client_chats import answer_chat, find_chat, running_answer, was_asked
from .client_requests import ClientChat
from .conversations import (
    check_model_type,
    create_conversation,
    delete_conversation,
    get_conversation,
    hide_conversation,
    restore_conversation,
    running_generation,
    select_branch,
    update_conversation,
)
from .deletion import delete_message, running_below
from .generations import StoredAnswer, get_answer, get_generation, messages_named, stop_generation
from .idempotency import IDEMPOTENCY_KEY, Idempotency, find_reply
from .regenerating import find_regenerated, regenerate
from .replies import start_reply
from .turns import turn_before

__all__ = [
    "ACTIVE_LEAF",
    "IDEMPOTENCY_KEY",
    "MOST_SAID",
    "Beginning",
    "ClientChat",
    "Idempotency",
    "ReplyOptions",
    "Said",
    "StoredAnswer",
    "ToolResult",
    "answer_chat",
    "branch",
    "by_model",
    "by_tools",
    "by_user",
    "check_model_type",
    "create_conversation",
    "delete_conversation",
    "delete_message",
    "find_chat",
    "find_regenerated",
    "find_reply",
    "get_answer",
    "get_conversation",
    "get_generation",
    "hide_conversation",
    "history",
    "list_messages",
    "messages_named",
    "regenerate",
    "restore_conversation",
    "running_answer",
    "running_below",
    "running_generation",
    "select_branch",
    "start_reply",
    "stop_generation",
    "turn_before",
    "update_conversation",
    "was_asked",
]
