"""Conversations, their messages, the bookkeeping that makes an answer durable, and what people may do."""

from .api_keys import ApiKey
from .conversations import MODEL_NAME_LENGTH, MODEL_TYPE_LENGTH, Conversation, Message
from .generations import Generation, GenerationChunk, Worker
from .limits import Allowance, TokenBudget, TokenCharge
from .owned import IDENTIFIER_LENGTH, Owned
from .user_configs import MAX_TOKENS_LIMIT, UserConfig

__all__ = [
    "IDENTIFIER_LENGTH",
    "MAX_TOKENS_LIMIT",
    "MODEL_NAME_LENGTH",
    "MODEL_TYPE_LENGTH",
    "Allowance",
    "ApiKey",
    "Conversation",
    "Generation",
    "GenerationChunk",
    "Message",
    "Owned",
    "TokenBudget",
    "TokenCharge",
    "UserConfig",
    "Worker",
]
