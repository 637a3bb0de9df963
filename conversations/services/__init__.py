"""The verbs. Keyword arguments only; each is one transaction and runs on a database thread (``db.write``)."""

from .conversations import (
    branch,
    check_model_type,
    create_conversation,
    delete_conversation,
    get_conversation,
    running_generation,
    update_conversation,
)
from .replies import Idempotency, ReplyOptions, get_generation, regenerate, start_reply

__all__ = [
    "Idempotency",
    "ReplyOptions",
    "branch",
    "check_model_type",
    "create_conversation",
    "delete_conversation",
    "get_conversation",
    "get_generation",
    "regenerate",
    "running_generation",
    "start_reply",
    "update_conversation",
]
