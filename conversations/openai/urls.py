"""The paths of OpenAI's API."""

from django.urls import path

from ..web.gate import on_pool
from .conversations import ConversationsView, ConversationView, ItemsView, ItemView
from .responses import InputItemsView, ResponseCancelView, ResponsesView, ResponseView
from .views import ChatCompletionsView, ModelsView, ModelView, NothingView

urlpatterns = [
    path("v1/models", on_pool(ModelsView.as_view()), name="v1_models"),
    path("v1/models/<str:model>", on_pool(ModelView.as_view()), name="v1_model"),
    path("v1/chat/completions", on_pool(ChatCompletionsView.as_view()), name="v1_chat_completions"),
    path("v1/responses", on_pool(ResponsesView.as_view()), name="v1_responses"),
    path("v1/responses/<str:response_id>", on_pool(ResponseView.as_view()), name="v1_response"),
    path("v1/responses/<str:response_id>/cancel", on_pool(ResponseCancelView.as_view()), name="v1_response_cancel"),
    path("v1/responses/<str:response_id>/input_items", on_pool(InputItemsView.as_view()), name="v1_input_items"),
    path("v1/conversations", on_pool(ConversationsView.as_view()), name="v1_conversations"),
    path("v1/conversations/<str:conversation_id>", on_pool(ConversationView.as_view()), name="v1_conversation"),
    path("v1/conversations/<str:conversation_id>/items", on_pool(ItemsView.as_view()), name="v1_items"),
    path("v1/conversations/<str:conversation_id>/items/<str:item_id>", on_pool(ItemView.as_view()), name="v1_item"),
    path("v1", on_pool(NothingView.as_view()), name="v1_root"),
    path("v1/<path:rest>", on_pool(NothingView.as_view()), name="v1_nothing"),
]
