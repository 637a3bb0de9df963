"""A plain chat backend to compare with: what a good engineer writes who wants no log of chunks.

FastAPI on uvicorn with uvloop and httptools, SQLAlchemy with a pool, SQLite in WAL mode, one shared httpx client.
The question is committed before the model is called, the answer after it has ended; a stream that breaks leaves
no answer. It lets in by API key, as this project does, and checks neither rates nor budgets.
"""

from __future__ import annotations

import hashlib
import json
import os
import sys
import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import datetime, timezone
from typing import Annotated, Any

import httpx
from fastapi import FastAPI, Header, HTTPException
from fastapi.concurrency import run_in_threadpool
from fastapi.responses import StreamingResponse
from pydantic import BaseModel, Field
from sqlalchemy import ForeignKey, create_engine, event, select
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column, sessionmaker

UPSTREAM = os.environ["UPSTREAM"]
engine = create_engine(os.environ["DATABASE"], pool_size=8, max_overflow=8, connect_args={"timeout": 20})
sessions = sessionmaker(engine, expire_on_commit=False)


@event.listens_for(engine, "connect")
def prepare(connection: Any, _record: Any) -> None:
    connection.execute("PRAGMA journal_mode=WAL")
    connection.execute("PRAGMA synchronous=NORMAL")
    connection.execute("PRAGMA foreign_keys=ON")


class Base(DeclarativeBase):
    pass


def utc_now() -> datetime:
    return datetime.now(timezone.utc)  # noqa: UP017


class User(Base):
    __tablename__ = "users"
    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(unique=True)


class ApiKey(Base):
    __tablename__ = "api_keys"
    id: Mapped[int] = mapped_column(primary_key=True)
    user_id: Mapped[int] = mapped_column(ForeignKey("users.id"))
    hash: Mapped[str] = mapped_column(unique=True)


class Conversation(Base):
    __tablename__ = "conversations"
    id: Mapped[int] = mapped_column(primary_key=True)
    session_id: Mapped[str] = mapped_column(unique=True)
    user_id: Mapped[int] = mapped_column(ForeignKey("users.id"), index=True)
    title: Mapped[str]
    updated_at: Mapped[datetime] = mapped_column(default=utc_now)


class Message(Base):
    __tablename__ = "messages"
    id: Mapped[int] = mapped_column(primary_key=True)
    conversation_id: Mapped[int] = mapped_column(ForeignKey("conversations.id"), index=True)
    role: Mapped[str]
    content: Mapped[str]
    created_at: Mapped[datetime] = mapped_column(default=utc_now)


class Chat(BaseModel):
    message: str = Field(min_length=1, max_length=100_000)
    session_id: uuid.UUID | None = None


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncIterator[None]:
    limits = httpx.Limits(max_connections=None, max_keepalive_connections=100)
    async with httpx.AsyncClient(timeout=60, limits=limits) as client:
        app.state.client = client
        yield


app = FastAPI(lifespan=lifespan)


def find_user(session: Session, authorization: str) -> int:
    key = hashlib.sha256(authorization.removeprefix("Bearer ").encode()).hexdigest()
    user_id = session.scalar(select(ApiKey.user_id).where(ApiKey.hash == key))
    if user_id is None:
        raise HTTPException(401)
    return user_id


def begin(chat: Chat, authorization: str) -> tuple[int, str, list[dict[str, str]]]:
    """Store the question; return its conversation and what the model is to see."""
    with sessions.begin() as session:
        user_id = find_user(session, authorization)
        if chat.session_id is None:
            conversation = Conversation(session_id=str(uuid.uuid4()), user_id=user_id, title=chat.message[:50])
            session.add(conversation)
            session.flush()
            history = []
        else:
            found = session.scalar(
                select(Conversation).where(
                    Conversation.session_id == str(chat.session_id), Conversation.user_id == user_id
                )
            )
            if found is None:
                raise HTTPException(404)
            conversation = found
            rows = select(Message).where(Message.conversation_id == conversation.id).order_by(Message.id)
            history = [{"role": message.role, "content": message.content} for message in session.scalars(rows)]
        session.add(Message(conversation_id=conversation.id, role="user", content=chat.message))
        conversation.updated_at = utc_now()
        return conversation.id, conversation.session_id, [*history, {"role": "user", "content": chat.message}]


def end(conversation_id: int, text: str) -> int:
    """Store the answer."""
    with sessions.begin() as session:
        message = Message(conversation_id=conversation_id, role="assistant", content=text)
        session.add(message)
        conversation = session.get(Conversation, conversation_id)
        if conversation is not None:
            conversation.updated_at = utc_now()
        session.flush()
        return message.id


@app.post("/chat")
async def chat(body: Chat, authorization: Annotated[str, Header()] = "") -> StreamingResponse:
    conversation_id, session_id, messages = await run_in_threadpool(begin, body, authorization)
    return StreamingResponse(relay(conversation_id, session_id, messages), media_type="text/event-stream")


async def relay(conversation_id: int, session_id: str, messages: list[dict[str, str]]) -> AsyncIterator[str]:
    text = []
    asked = {"model": "bench", "messages": messages, "stream": True}
    async with app.state.client.stream("POST", UPSTREAM, json=asked) as response:
        response.raise_for_status()
        async for line in response.aiter_lines():
            if not line.startswith("data: ") or line == "data: [DONE]":
                continue
            choices = json.loads(line[6:])["choices"]
            piece = choices[0]["delta"].get("content") if choices else None
            if piece:
                text.append(piece)
                yield f"data: {json.dumps({'chunk': piece}, ensure_ascii=False)}\n\n"
    message_id = await run_in_threadpool(end, conversation_id, "".join(text))
    yield f"data: {json.dumps({'done': True, 'session_id': session_id, 'message_id': message_id})}\n\n"


@app.get("/health")
async def health() -> dict[str, str]:
    return {"status": "ok"}


def make_tables(keys: list[str]) -> None:
    """Make the tables, with a user for each key."""
    Base.metadata.create_all(engine)
    with sessions.begin() as session:
        for number, key in enumerate(keys):
            user = User(name=f"bench-{number}")
            session.add(user)
            session.flush()
            session.add(ApiKey(user_id=user.id, hash=hashlib.sha256(key.encode()).hexdigest()))


if __name__ == "__main__":
    make_tables(sys.stdin.read().split())
