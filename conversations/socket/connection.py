"""A socket that says who it is and sends frames: let in, judged, kept within bounds, and closed."""

from __future__ import annotations

import asyncio
import json
import logging
import uuid
from collections.abc import Callable, Coroutine, Mapping
from http import HTTPStatus
from typing import Any

from channels.generic.websocket import AsyncWebsocketConsumer
from django.utils.translation import gettext_lazy as _
from rest_framework.exceptions import ParseError

from .. import conf
from ..access.credentials import KEY_PROTOCOL, Connection, caller_of, check_origin, credential_of_socket
from ..access.rules import OPEN, Caller, Credential
from ..database import db
from ..exceptions import ChatError, InvalidRequest, NotAuthenticated, RateLimited, request_id
from ..limits.rates import check_rate
from ..web.accept import activate_language
from ..web.calls import validated
from ..web.errors import as_chat_error
from ..web.parsers import loads
from .frames import AuthenticateFrame, authenticated, is_frame_id, pong, refused

logger = logging.getLogger("conversations.socket")

# Close codes are for the connection only; a frame that is refused closes nothing.
MALFORMED = 4400
UNAUTHENTICATED = 4401
FORBIDDEN = 4403
TOO_MUCH = 4429
# Of the protocol's own: clients that connect again do so after it.
TRY_AGAIN_LATER = 1013
# Replies that one socket may follow at a time.
MAX_REPLIES = 64

_encode_json = json.JSONEncoder(ensure_ascii=False).encode
Frame = dict[str, Any]
# What a frame asks for: called with the consumer, the frame's id and its fields.
FrameAction = Callable[[Any, Any, Frame], Coroutine[Any, Any, None]]


class SocketConsumer(AsyncWebsocketConsumer):
    """Works on each frame in a task of its own. Who it is was said at the handshake, or is said by a first frame.

    ``actions`` are the frames that ask for something of somebody's; each judges the caller again.
    """

    caller: Caller | None = None
    # A socket that listened on the channel layer would end whenever that does.
    channel_layer_alias = ""

    @property
    def actions(self) -> Mapping[str, FrameAction]:
        raise NotImplementedError

    async def websocket_connect(self, message: Frame) -> None:
        self._tasks: set[asyncio.Task[None]] = set()
        self._closing = False
        await super().websocket_connect(message)

    async def connect(self) -> None:
        connection = self.connection = Connection.from_scope(self.scope)
        activate_language(connection.headers.get("accept-language", ""))
        # A browser learns the close code of an accepted socket only.
        await self.accept(next((name for name in connection.protocols if not name.startswith(KEY_PROTOCOL)), None))
        try:
            check_origin(connection)
            credential = credential_of_socket(connection)
            if credential is None:
                await db.read(check_rate, connection)
                self._task(self._await_key())
            else:
                self.caller = await db.read(self._counted, credential)
        except Exception as error:
            refusal = as_chat_error(error)
            if refusal is None:
                raise
            await self._end(_close_code(refusal), refusal.code)

    async def _await_key(self) -> None:
        await asyncio.sleep(conf.get().AUTHENTICATE_TIMEOUT)
        if self.caller is None:
            await self._end(UNAUTHENTICATED, NotAuthenticated.code)

    async def disconnect(self, code: int) -> None:
        await self._cancel_tasks()

    async def _end(self, code: int, reason: str) -> None:
        """Close the socket, and what runs on it first: nothing may be sent after the close."""
        if self._closing:
            return
        self._closing = True
        logger.warning("socket closed: %s", reason)
        await self._cancel_tasks()
        await self.close(code, reason)

    async def _cancel_tasks(self) -> None:
        tasks = self._tasks - {asyncio.current_task()}
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def receive(self, text_data: str | None = None, bytes_data: bytes | None = None) -> None:
        if self._closing:
            return  # the close is on its way
        if text_data is None or len(text_data.encode("utf-8", "replace")) > conf.get().MAX_BODY_BYTES:
            await self._end(MALFORMED, "not a text frame, or too large")
            return
        try:
            frame = loads(text_data)
        except ParseError:
            await self._end(MALFORMED, "not JSON")
            return
        except InvalidRequest as error:
            await self._send(refused(None, error))
            return
        await self._dispatch(frame)

    async def _dispatch(self, frame: Frame) -> None:
        frame_id = frame.pop("id", None)
        kind = frame.pop("type", None)
        if not is_frame_id(frame_id):
            await self._send(refused(None, InvalidRequest(errors={"id": [_("A string or a number.")]})))
        elif kind == "authenticate":
            await self._guarded(self._authenticate(frame_id, frame), frame_id)
        elif self.caller is None:
            await self._end(UNAUTHENTICATED, NotAuthenticated.code)
        elif kind == "ping":
            await self._send(pong(frame_id))
        elif not isinstance(kind, str) or kind not in self.actions:
            await self._send(refused(frame_id, InvalidRequest(errors={"type": [_("There is no such frame type.")]})))
        elif len(self._tasks) >= MAX_REPLIES:
            await self._send(refused(frame_id, InvalidRequest(_("Too many replies at once on one socket."))))
        else:
            self._task(self._guarded(self.actions[kind](self, frame_id, frame), frame_id))

    def _task(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()):
            logger.error("a frame could not be answered", exc_info=error)

    async def _guarded(self, work: Coroutine[Any, Any, None], frame_id: Any) -> None:
        request_id.set(uuid.uuid4().hex)
        try:
            await work
        except OSError:
            logger.debug("the socket went away")
        except Exception as error:
            answer = refused(frame_id, error)
            if answer["error"]["status"] >= 500:
                logger.exception("a frame failed")
            await self._send(answer)
            if isinstance(error, NotAuthenticated) or (isinstance(error, RateLimited) and self.caller is None):
                await self._end(_close_code(error), error.code)

    async def _authenticate(self, frame_id: Any, frame: Frame) -> None:
        """Let in by a key; on an open server, and for who is in already, there is nothing left to say."""
        key = validated(AuthenticateFrame, frame)["key"]
        if self.caller is None:
            self.caller = await db.read(self._counted, Credential("key", key))
        elif self.caller.credential != OPEN:
            raise InvalidRequest(_("This socket has shown who it is; open another one for another key."))
        await self._send(authenticated(frame_id))

    def _counted(self, credential: Credential | None) -> Caller:
        """Return whose credential it is, and count this as a call of theirs; for jobs.

        Raises ``NotAuthenticated``, or ``RateLimited`` for too many calls, or for too many from where nobody is known.
        """
        try:
            caller = caller_of(credential)
        except NotAuthenticated:
            check_rate(self.connection)
            raise
        check_rate(self.connection, caller)
        return caller

    def _judged(self) -> Caller:
        """Return the caller as they are now, for an action that counts; for jobs. Raises like ``_counted``."""
        return self._counted(self.caller.credential if self.caller else None)

    async def _send(self, frame: Frame) -> None:
        await self.send(text_data=_encode_json(frame))


def _close_code(error: ChatError) -> int:
    if isinstance(error, RateLimited):
        return TOO_MUCH
    if error.status == HTTPStatus.SERVICE_UNAVAILABLE:
        return TRY_AGAIN_LATER
    return UNAUTHENTICATED if isinstance(error, NotAuthenticated) else FORBIDDEN
