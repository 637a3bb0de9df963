"""What a view's operations are called: a summary, and the group in which they stand."""

from __future__ import annotations

import re

from drf_spectacular.openapi import AutoSchema

# Not within backticks: an even number of them follows.
CLAUSE_END = re.compile(r"[.:;](?=\s|$)(?=(?:[^`]*`[^`]*`)*[^`]*$)")

TAGS = {
    "conversations": "Conversations and their messages.",
    "chat": "Say something; answers as JSON or as a stream of server-sent events.",
    "attachments": "Images for messages.",
    "answers": "An answer that is being made or was made: its state, its stream, its stop.",
    "settings": "Which model answers, and what the caller may use.",
    "keys": "The caller's own API keys.",
    "search": "What was said, found again.",
    "events": "What is new, to each tab and device.",
    "openai": "OpenAI's API, for clients of it.",
    "ui": "What libraries of front ends speak: the AI SDK's UI message stream, for `useChat`, and AG-UI.",
    "health": "For probes and load balancers.",
}
# The group by the first words of a path.
GROUPS = {
    "/conversations": "conversations",
    "/chat": "chat",
    "/messages": "chat",
    "/attachments": "attachments",
    "/generations": "answers",
    "/search": "search",
    "/events": "events",
    "/v1": "openai",
    "/api/agui": "ui",
    "/api/chat": "ui",
    "/api/usage": "settings",
    "/api/config": "settings",
    "/api/limits": "settings",
    "/api/keys": "keys",
    "/api/health": "health",
}


class ApiSchema(AutoSchema):
    """The first sentence of a method's docstring is the summary, the whole of it the description."""

    def get_summary(self) -> str:
        """Return the first sentence without its stop."""
        return summary_of(self.get_description())

    def get_tags(self) -> list[str]:
        """Return the group of the path."""
        return [group for start, group in GROUPS.items() if self.path.startswith(start)][:1] or super().get_tags()


def summary_of(description: str) -> str:
    """Return the first clause of a description, without its stop."""
    return CLAUSE_END.split(description.strip())[0]
