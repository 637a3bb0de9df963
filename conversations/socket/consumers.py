"""The WebSocket: the same calls, validation and events as over HTTP, several replies at a time."""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from contextlib import aclosing
from typing import Any

from django.utils.translation import gettext_lazy as _

from .. import services
from ..access.rules import Action, Caller, authorize
from ..database import db
from ..engine import engines
from ..engine.events import AnswerIds, DoneEvent, IdleEvent, LoadingEvent
from ..engine.reader import open_reader
from ..exceptions import InvalidRequest
from ..web.calls import validated
from ..web.credential_watch import CredentialWatch
from ..web.feed import watched
from ..web.fields import StrictSerializer
from ..web.queries import UserQuerySerializer
from ..web.serializers import options_of, results_of
from .connection import Frame, FrameAction, SocketConsumer
from .frames import (
    AttachFrame,
    ChatFrame,
    MessageFrame,
    RegenerateFrame,
    StopFrame,
    accepted,
    deleted,
    event_frame,
    selected,
)


class ChatConsumer(SocketConsumer):
    """`/ws/chat`: answers, several at a time, and what is new."""

    is_watching = False

    @property
    def actions(self) -> Mapping[str, FrameAction]:
        return ACTIONS

    async def _chat(self, frame_id: Any, frame: Frame) -> None:
        ids = await db.write(self._start_chat, frame)
        await self._follow(frame_id, ids.generation_id)

    async def _regenerate(self, frame_id: Any, frame: Frame) -> None:
        ids = await db.write(self._start_regenerate, frame)
        await self._follow(frame_id, ids.generation_id)

    def _start_chat(self, frame: Frame) -> AnswerIds:
        caller = self._judged()
        data, key = _with_key(validated(ChatFrame, frame))
        return services.start_reply(
            caller=caller,
            message=data.get("message", ""),
            tool_results=results_of(data),
            attachment_ids=data.get("attachments", ()),
            session_id=data.get("session_id"),
            parent_id=data.get("parent_id", services.ACTIVE_LEAF),
            user_id=data.get("user_id"),
            options=options_of(data),
            temporary=data.get("temporary", False),
            idempotency=key,
        )

    def _start_regenerate(self, frame: Frame) -> AnswerIds:
        caller = self._judged()
        data, key = _with_key(validated(RegenerateFrame, frame))
        message_id = data["message_id"]
        return services.regenerate(caller=caller, message_id=message_id, options=options_of(data), idempotency=key)[0]

    async def _attach(self, frame_id: Any, frame: Frame) -> None:
        data = await self._authorized(AttachFrame, frame, Action.READ)
        await self._follow(frame_id, data["generation_id"], data["after"])

    async def _stop(self, _frame_id: Any, frame: Frame) -> None:
        data = await self._authorized(StopFrame, frame, Action.STOP)
        await engines.current().stop(data["generation_id"])

    async def _select(self, frame_id: Any, frame: Frame) -> None:
        conversation = await db.write(lambda: services.select_branch(**self._named(frame)))
        await self._send(selected(frame_id, conversation.session_id, conversation.active_leaf_id))

    async def _delete(self, frame_id: Any, frame: Frame) -> None:
        named, running = await db.read(self._running_below, frame)
        if running:
            await engines.current().stop(running)
        gone = await db.write(services.delete_message, **named)
        engines.current().tell_of_ends(gone.ended)
        await self._send(deleted(frame_id, gone))

    def _running_below(self, frame: Frame) -> tuple[Frame, uuid.UUID | None]:
        named = self._named(frame)
        return named, services.running_below(**named)

    def _named(self, frame: Frame) -> Frame:
        """Return who calls and the message that they name; for jobs."""
        return {"caller": self._judged(), **validated(MessageFrame, frame)}

    async def _watch(self, frame_id: Any, frame: Frame) -> None:
        """Send what is new in the caller's conversations, until the socket closes."""
        caller = await db.read(self._watching, frame)
        if self.is_watching:
            raise InvalidRequest(_("This socket watches already."))
        self.is_watching = True
        try:
            async with aclosing(watched(caller)) as batches:
                async for events in batches:
                    for event in events:
                        await self._send({"type": "event", "id": frame_id, **event})
        finally:
            self.is_watching = False

    def _watching(self, frame: Frame) -> Caller:
        caller = self._judged()
        authorize(caller, Action.LIST)
        return caller.labelled(validated(UserQuerySerializer, frame).get("user_id"))

    async def _authorized(self, serializer_class: type[StrictSerializer], frame: Frame, action: Action) -> Frame:
        def job() -> Frame:
            caller = self._judged()
            data = validated(serializer_class, frame)
            services.get_generation(caller=caller, generation_id=data["generation_id"], action=action)
            return data

        return await db.read(job)

    async def _follow(self, frame_id: Any, generation_id: uuid.UUID, after: int = 0) -> None:
        """Send an answer's events. A client that reads slowly holds up its own replies only."""
        assert self.caller is not None
        watch = CredentialWatch(self.caller)
        reader = await open_reader(generation_id, after)
        await self._send(accepted(frame_id, reader.ids, after))
        async with aclosing(reader.batches()) as batches:
            async for batch in batches:
                for event in batch:
                    if isinstance(event, LoadingEvent):
                        names = {"id": frame_id, "generation_id": str(generation_id)}
                        await self._send({"type": "loading", **names})
                    elif not isinstance(event, IdleEvent):
                        await self._send(event_frame(frame_id, str(generation_id), event))
                if isinstance(batch[-1], DoneEvent):
                    return  # whoever saw the end needs no credential any more
                await watch.check()


def _with_key(frame: Frame) -> tuple[Frame, services.Idempotency | None]:
    """Return a frame as the same call over HTTP has it, and what its key promises."""
    asked = {name: value for name, value in frame.items() if name != "idempotency_key"}
    return asked, services.Idempotency.of(frame.get("idempotency_key"), asked)


# The frames that ask for something of somebody's.
ACTIONS: Mapping[str, FrameAction] = {
    "chat": ChatConsumer._chat,
    "regenerate": ChatConsumer._regenerate,
    "attach": ChatConsumer._attach,
    "stop": ChatConsumer._stop,
    "select": ChatConsumer._select,
    "delete": ChatConsumer._delete,
    "watch": ChatConsumer._watch,
}
