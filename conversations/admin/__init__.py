"""Everything in Django admin. What people and models said can be read there, not changed, and with the permission
``view_message`` only: titles and system prompts are part of it.

Lists load no texts, only their beginnings, and run the same number of queries however many rows there are.
"""

from .api_keys import ApiKeyAdmin
from .attachments import AttachmentAdmin
from .conversations import ConversationAdmin
from .limits import AllowanceAdmin, TokenBudgetAdmin
from .messages import GenerationAdmin, MessageAdmin, WorkerAdmin
from .overview import OverviewAdmin
from .usage import DailyUsageAdmin, FeedbackAdmin
from .user_configs import UserConfigAdmin

__all__ = [
    "AllowanceAdmin",
    "ApiKeyAdmin",
    "AttachmentAdmin",
    "ConversationAdmin",
    "DailyUsageAdmin",
    "FeedbackAdmin",
    "GenerationAdmin",
    "MessageAdmin",
    "OverviewAdmin",
    "TokenBudgetAdmin",
    "UserConfigAdmin",
    "WorkerAdmin",
]
