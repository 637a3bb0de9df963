"""Conversations, their messages, the bookkeeping that makes an answer durable, and what people may do."""

from .api_keys import ApiKey, Scope
from .attachments import Attachment, AttachmentUse, FileToDelete, attachment_storage
from .conversations import (
    CLIENT_ID_LENGTH,
    MESSAGE_TEXTS,
    MODEL_NAME_LENGTH,
    MODEL_TYPE_LENGTH,
    TITLE_LENGTH,
    Conversation,
    Message,
)
from .generations import (
    BILLION,
    CALL_LENGTH,
    ERROR_MESSAGE_LENGTH,
    FINISH_REASON_LENGTH,
    HOST_LENGTH,
    Generation,
    GenerationChunk,
    Worker,
    shown_usage,
)
from .limits import Allowance, TokenBudget, TokenCharge
from .owned import IDENTIFIER_LENGTH, Owned
from .parts import ToolResult, calls_of, parts_of, whole_parts
from .querysets import MOST_SIBLINGS
from .relays import Relay
from .search import SearchText
from .usage import ALL_COUNTS, FEEDBACK_LENGTH, KEPT_COUNTS, USAGE_GROUPS, DailyUsage, Feedback, Overview
from .user_configs import API_URL_LENGTH, MAX_TOKENS_LIMIT, UserConfig

__all__ = [
    "ALL_COUNTS",
    "API_URL_LENGTH",
    "BILLION",
    "CALL_LENGTH",
    "CLIENT_ID_LENGTH",
    "ERROR_MESSAGE_LENGTH",
    "FEEDBACK_LENGTH",
    "FINISH_REASON_LENGTH",
    "HOST_LENGTH",
    "IDENTIFIER_LENGTH",
    "KEPT_COUNTS",
    "MAX_TOKENS_LIMIT",
    "MESSAGE_TEXTS",
    "MODEL_NAME_LENGTH",
    "MODEL_TYPE_LENGTH",
    "MOST_SIBLINGS",
    "TITLE_LENGTH",
    "USAGE_GROUPS",
    "Allowance",
    "ApiKey",
    "Attachment",
    "AttachmentUse",
    "Conversation",
    "DailyUsage",
    "Feedback",
    "FileToDelete",
    "Generation",
    "GenerationChunk",
    "Message",
    "Overview",
    "Owned",
    "Relay",
    "Scope",
    "SearchText",
    "TokenBudget",
    "TokenCharge",
    "ToolResult",
    "UserConfig",
    "Worker",
    "attachment_storage",
    "calls_of",
    "parts_of",
    "shown_usage",
    "whole_parts",
]
