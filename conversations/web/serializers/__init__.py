"""What the calls take and give. The WebSocket consumer validates its frames with the same ones."""

from .configuration import (
    ConfigSerializer,
    ConfigUpdateSerializer,
    EndpointSerializer,
    ModelsSerializer,
    PresetSerializer,
    TrialSerializer,
)
from .conversations import (
    ConversationCreatedSerializer,
    ConversationCreateSerializer,
    ConversationDeletedSerializer,
    ConversationListItemSerializer,
    ConversationListSerializer,
    ConversationSerializer,
    ConversationUpdateSerializer,
)
from .found import FoundPageSerializer
from .messages import (
    FeedbackSerializer,
    HistorySerializer,
    MessageDeletedSerializer,
    MessagePageSerializer,
    MessageSerializer,
    UsageSerializer,
)
from .replies import (
    AnswerErrorSerializer,
    ChatSerializer,
    GenerationSerializer,
    RegenerateSerializer,
    ReplyOptionsSerializer,
    ReplySerializer,
    options_of,
)
from .tools import results_of
from .usage import UsageReportSerializer

__all__ = [
    "AnswerErrorSerializer",
    "ChatSerializer",
    "ConfigSerializer",
    "ConfigUpdateSerializer",
    "ConversationCreateSerializer",
    "ConversationCreatedSerializer",
    "ConversationDeletedSerializer",
    "ConversationListItemSerializer",
    "ConversationListSerializer",
    "ConversationSerializer",
    "ConversationUpdateSerializer",
    "EndpointSerializer",
    "FeedbackSerializer",
    "FoundPageSerializer",
    "GenerationSerializer",
    "HistorySerializer",
    "MessageDeletedSerializer",
    "MessagePageSerializer",
    "MessageSerializer",
    "ModelsSerializer",
    "PresetSerializer",
    "RegenerateSerializer",
    "ReplyOptionsSerializer",
    "ReplySerializer",
    "TrialSerializer",
    "UsageReportSerializer",
    "UsageSerializer",
    "options_of",
    "results_of",
]
