"""The README's calls with what openapi-python-client makes of docs/openapi.yaml, in the package `api`."""

import sys

from api.api.answers import generations_retrieve, generations_stop_create
from api.api.chat import chat_create, messages_regenerate_create
from api.api.conversations import (
    conversations_create,
    conversations_destroy,
    conversations_history_retrieve,
    conversations_list,
    conversations_partial_update,
    conversations_retrieve,
)
from api.api.health import health
from api.api.settings import api_config_create, api_config_retrieve, api_limits_retrieve
from api.client import Client
from api.models import (
    ChatRequest,
    ConfigUpdateRequest,
    ConversationCreateRequest,
    PatchedConversationUpdateRequest,
    Problem,
    RegenerateRequest,
    Reply,
)

client = Client(base_url=sys.argv[1])

assert health.sync(client=client).status == "ok"
session_id = conversations_create.sync(client=client, body=ConversationCreateRequest(title="Stories")).session_id
replies = [
    chat_create.sync(client=client, body=ChatRequest(message=text, session_id=session_id, stream=False))
    for text in ("hello", "again")
]
assert all(isinstance(reply, Reply) and reply.status == "completed" for reply in replies)
messages = conversations_history_retrieve.sync(client=client, session_id=session_id).messages

state = generations_retrieve.sync(client=client, generation_id=replies[0].generation_id)
assert state.usage is not None
assert state.error is None
assert generations_stop_create.sync(client=client, generation_id=replies[0].generation_id).status == "completed"
another = messages_regenerate_create.sync(
    client=client, message_id=replies[1].message_id, body=RegenerateRequest(stream=False)
)
assert another.assistant_reply == replies[1].assistant_reply
assert another.message_id != replies[1].message_id

renamed = PatchedConversationUpdateRequest(title="A fox", is_pinned=True)
assert conversations_partial_update.sync(client=client, session_id=session_id, body=renamed).is_pinned
assert conversations_retrieve.sync(client=client, session_id=session_id).title == "A fox"
assert session_id in [item.session_id for item in conversations_list.sync(client=client, search="fox").conversations]
config = api_config_create.sync(client=client, body=ConfigUpdateRequest(model_type="default", max_tokens=1000))
assert api_config_retrieve.sync(client=client) == config
api_limits_retrieve.sync(client=client)

conversations_destroy.sync(client=client, session_id=session_id)
gone = conversations_history_retrieve.sync(client=client, session_id=session_id)
assert isinstance(gone, Problem)
assert gone.code == "not_found"
print(" | ".join(message.content for message in messages))
