"""Everything in Django admin. What people and models said can be read there, not changed.

Lists load no texts, only their beginnings, and run the same number of queries however many rows there are.
"""

from .conversations import ConversationAdmin
from .messages import GenerationAdmin, MessageAdmin, WorkerAdmin
from .user_configs import UserConfigAdmin

__all__ = ["ConversationAdmin", "GenerationAdmin", "MessageAdmin", "UserConfigAdmin", "WorkerAdmin"]
