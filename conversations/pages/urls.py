"""The chat page: ``path("", include("conversations.pages.urls"))``, beside ``conversations.urls``."""

from django.urls import path

from . import views

app_name = "conversations_pages"
urlpatterns = [path("", views.chat, name="chat")]
