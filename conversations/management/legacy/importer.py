"""Stores what the old database has and ours has not. To run it again adds only what is new.

A conversation is found again by its session id, a message by its place: the same role and text after the
same messages. So a conversation that went on in both services keeps both: the branch that is shown here
stays, what the old service has more becomes a branch beside it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from itertools import takewhile

from django.db import transaction
from django.utils import timezone
from django.utils.translation import gettext as _

from ...engine import completions
from ...engine.completions import validate_users_key
from ...models import MAX_TOKENS_LIMIT, MODEL_TYPE_LENGTH, TITLE_LENGTH, Conversation, Message, UserConfig
from ...services import searching, titles
from . import values
from .schema import OldConfig, OldConversation, OldMessage
from .source import Source

Note = Callable[[str], None]


@dataclass(slots=True)
class Tally:
    """What an import did, or with ``dry_run`` would do."""

    conversations_added: int = 0
    conversations_continued: int = 0
    conversations_unchanged: int = 0
    messages_added: int = 0
    messages_skipped: int = 0
    configs_added: int = 0
    configs_kept: int = 0
    # Session ids that were no UUIDs, and what they are now.
    renamed: list[tuple[str, str]] = field(default_factory=list)


class Importer:
    """Takes one old database over. ``note`` is told what could not be taken as it was, never a key."""

    def __init__(self, source: Source, *, dry_run: bool = False, note: Note = lambda _text: None) -> None:
        self._source = source
        self._dry_run = dry_run
        self._note = note
        self.tally = Tally()

    def run(self) -> Tally:
        """Import everything: a transaction for each conversation, and for each user's settings. Prunes nothing."""
        for conversation in self._source.conversations():
            with transaction.atomic():
                self._conversation(conversation)
                transaction.set_rollback(self._dry_run)
        for config in self._source.configs():
            with transaction.atomic():
                self._config(config)
                transaction.set_rollback(self._dry_run)
        if orphans := self._source.orphans():
            self._note(_("%(count)d messages belong to no conversation; they are left out") % {"count": orphans})
            self.tally.messages_skipped += orphans
        return self.tally

    # Conversations --------------------------------------------------------------------------------------------

    def _conversation(self, old: OldConversation) -> None:
        session_id = values.session_uuid(old.session)
        old_messages = [message for message in old.messages if message.role in values.KEPT_ROLES]
        conversation = Conversation.objects.select_for_update().filter(session_id=session_id).first()
        if conversation is None:
            conversation = self._create(old, old_messages)
            self.tally.conversations_added += 1
            if str(session_id) != old.session.lower():
                self.tally.renamed.append((old.session, str(session_id)))
            added = self._add(conversation, old_messages)
        else:
            added = self._add(conversation, old_messages)
            self.tally.conversations_continued += bool(added)
            self.tally.conversations_unchanged += not added
        self.tally.messages_added += added
        self.tally.messages_skipped += len(old.messages) - len(old_messages) - len(_leading_system(old.messages))

    def _create(self, old: OldConversation, old_messages: Sequence[OldMessage]) -> Conversation:
        times = [message.created_at for message in old.messages if message.created_at]
        created_at = old.created_at or min(times, default=timezone.now())
        title, title_source = _title(old, old_messages)
        return Conversation.objects.create(
            session_id=values.session_uuid(old.session),
            user_identifier=old.user,
            title=title,
            title_source=title_source,
            system_prompt="\n\n".join(message.content for message in _leading_system(old.messages)),
            created_at=created_at,
            updated_at=old.updated_at or created_at,
        )

    def _add(self, conversation: Conversation, old_messages: Sequence[OldMessage]) -> int:
        """Add the messages that are not there, each below the one before it; return how many."""
        there = _known_messages(conversation)
        parent_id: int | None = None
        attached_to: int | None = None
        at = conversation.created_at
        added = 0
        for old_message in old_messages:
            at = old_message.created_at or at
            found = there.get((parent_id, old_message.role, old_message.content))
            if found is None:
                attached_to = attached_to if added else parent_id
                found = _add_message(conversation, parent_id, old_message, at)
                added += 1
            parent_id = found
        if added:
            self._show(conversation, leaf_id=parent_id, length=len(old_messages), attached_to=attached_to, at=at)
        return added

    def _show(
        self, conversation: Conversation, *, leaf_id: int | None, length: int, attached_to: int | None, at: datetime
    ) -> None:
        """Make what was added the end of the conversation, unless it went on here in another way."""
        conversation.updated_at = max(conversation.updated_at, at)
        if conversation.active_leaf_id == attached_to:
            conversation.active_leaf_id = leaf_id
            conversation.message_count = length
        else:
            text = _("conversation %(session)s went on here too: what is new is a branch beside")
            self._note(text % {"session": conversation.session_id})
        conversation.save(update_fields=["active_leaf", "message_count", "updated_at"])

    # Settings -------------------------------------------------------------------------------------------------

    def _config(self, old: OldConfig) -> None:
        """Add a user's settings; those that are here already were perhaps changed here, and stay."""
        if UserConfig.objects.owned_by(old.user).exists():
            self.tally.configs_kept += 1
            return
        api_url = self._checked(old, _("URL"), old.api_url, completions.validate_url)
        model = self._checked(old, _("model name"), old.model, completions.validate_model_name)
        # The key was meant for that URL and no other.
        api_key = self._checked(old, _("key"), old.api_key, validate_users_key) if api_url else ""
        model_type = old.model_type[:MODEL_TYPE_LENGTH]
        if model_type == completions.CUSTOM and not (api_url and model):
            text = _("user %(user)s: their own model cannot be called; the default one answers them")
            self._note(text % {"user": repr(old.user)})
            model_type = ""
        UserConfig.objects.create(
            user_identifier=old.user,
            current_model_type=model_type,
            max_tokens=self._max_tokens(old),
            custom_api_url=api_url,
            custom_model=model,
            custom_api_key=api_key,
        )
        self.tally.configs_added += 1

    def _checked(self, old: OldConfig, what: str, value: str, validate: Callable[[str], str]) -> str:
        try:
            return validate(value) if value else ""
        except completions.InvalidEndpoint as error:
            text = _("user %(user)s: the %(what)s of their own model is left out: %(reason)s")
            self._note(text % {"user": repr(old.user), "what": what, "reason": error.message})
            return ""

    def _max_tokens(self, old: OldConfig) -> int | None:
        if old.max_tokens is None or 1 <= old.max_tokens <= MAX_TOKENS_LIMIT:
            return old.max_tokens
        text = _("user %(user)s: max_tokens is left out: %(given)d is not from 1 to %(limit)d")
        self._note(text % {"user": repr(old.user), "given": old.max_tokens, "limit": MAX_TOKENS_LIMIT})
        return None


def _leading_system(messages: Sequence[OldMessage]) -> list[OldMessage]:
    return list(takewhile(lambda message: message.role == "system", messages))


def _title(old: OldConversation, old_messages: Sequence[OldMessage]) -> tuple[str, Conversation.TitleSource]:
    """Return the old title, or for a conversation that nobody named its first words."""
    if values.is_named(old.title):
        return old.title[:TITLE_LENGTH], Conversation.TitleSource.PERSON
    first = next(
        (
            old_message.content
            for old_message in old_messages
            if old_message.role == Message.Role.USER and old_message.content.strip()
        ),
        "",
    )
    if first:
        return titles.first_words(first), Conversation.TitleSource.FIRST_WORDS
    return "", Conversation.TitleSource.NONE


def _known_messages(conversation: Conversation) -> dict[tuple[int | None, str, str], int]:
    """Return the messages of a conversation by what identifies them: what they follow, role and text."""
    rows = conversation.messages.order_by("-pk").values_list("parent_id", "role", "content", "pk")
    return {(parent_id, role, content): pk for parent_id, role, content, pk in rows}


def _add_message(conversation: Conversation, parent_id: int | None, old_message: OldMessage, at: datetime) -> int:
    message = Message.objects.create(
        conversation=conversation,
        parent_id=parent_id,
        role=old_message.role,
        content=old_message.content,
        created_at=at,
    )
    searching.add([message])
    return message.pk
