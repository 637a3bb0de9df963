"""The tests of a project of one's own work by themselves, under Django's runner and pytest-django."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator

import pytest

from tests import databases
from tests.database_server import DatabaseServer
from tests.upstream import run_upstream_in_thread

from .markdown import blocks
from .test_install_guide import GUIDE, Project

VENDOR = databases.vendor()
pytestmark = pytest.mark.server

MORE = """

import asyncio

from asgiref.sync import sync_to_async
from conversations.models import Message
from django.test import TransactionTestCase, override_settings


class Calls:
    def test_what_a_call_writes_the_test_and_the_next_call_see(self):
        for _number in range(3):
            self.client.post("/conversations", {"title": "Mine"}, content_type="application/json")
        Conversation.objects.update(title="Renamed")
        titles = [each["title"] for each in self.client.get("/conversations").json()["conversations"]]
        self.assertEqual(titles, ["Renamed"] * 3)

    def test_nothing_is_left_of_it(self):
        self.assertEqual(Conversation.objects.count(), 0)

    async def test_several_at_once(self):
        calls = [self.async_client.post("/conversations", {}, content_type="application/json") for _number in range(8)]
        self.assertEqual({answer.status_code for answer in await asyncio.gather(*calls)}, {201})
        self.assertEqual(await Conversation.objects.acount(), 8)


ENDLESS = '!script {"endless": true, "delay": 0.02, "chunks": ["tick "]}'


class Chats:
    def say(self, path="/chat", **body):
        return self.client.post(path, body, content_type="application/json")

    async def asay(self, path="/chat", **body):
        return await self.async_client.post(path, body, content_type="application/json")

    def test_a_whole_answer_and_another_one(self):
        reply = self.say(message="hi", stream=False).json()
        self.assertEqual(reply["assistant_reply"], "You said: hi (0 earlier messages)")
        self.assertEqual(Message.objects.get(pk=reply["message_id"]).content, reply["assistant_reply"])
        other = self.say(f"/messages/{reply['message_id']}/regenerate", stream=False).json()
        self.assertEqual(other["status"], "completed")
        next_one = self.say(message="more", session_id=reply["session_id"], stream=False).json()
        self.assertEqual(next_one["assistant_reply"], "You said: more (2 earlier messages)")
        self.assertEqual(Message.objects.count(), 5)

    def test_a_stream_to_its_end(self):
        reply = self.say(message="hi")
        self.assertIn(b'"status": "completed"', reply.getvalue())
        stopped = self.client.post(f"/generations/{reply['X-Generation-Id']}/stop")
        self.assertEqual(stopped.json()["status"], "completed")

    async def test_whole_answers_at_once(self):
        replies = await asyncio.gather(*(self.asay(message="hi", stream=False) for _number in range(4)))
        self.assertEqual({reply.json()["status"] for reply in replies}, {"completed"})

    async def test_a_stream_to_its_end_async(self):
        reply = await self.asay(message="hi")
        self.assertIn(b'"status": "completed"', b"".join([part async for part in reply.streaming_content]))

    async def test_a_stop(self):
        reply = await self.asay(message=ENDLESS)
        parts = aiter(reply.streaming_content)
        while b"tick" not in await anext(parts):
            pass
        stopped = await self.async_client.post(f"/generations/{reply['X-Generation-Id']}/stop")
        self.assertEqual(stopped.json()["status"], "stopped")
        self.assertIn(b'"status": "stopped"', b"".join([part async for part in parts]))

    async def test_an_answer_that_nobody_waits_for(self):
        reply = await self.asay(message=ENDLESS)
        self.assertEqual(reply.status_code, 200)

    async def test_a_sync_client_beside_it(self):
        reply = await self.asay(message=ENDLESS)
        other = await sync_to_async(self.say)(message="hi", stream=False)
        self.assertEqual(other.json()["status"], "completed")
        stopped = await self.async_client.post(f"/generations/{reply['X-Generation-Id']}/stop")
        self.assertEqual(stopped.json()["status"], "stopped")


def plain_middleware(get_response):
    return lambda request: get_response(request)


@override_settings(MIDDLEWARE=["test_chat.plain_middleware"])
class BehindPlainMiddleware(Calls, Chats, TestCase):
    pass


class InOneTransaction(Calls, Chats, TestCase):
    pass


class InRealTransactions(Calls, Chats, TransactionTestCase):
    pass
"""
ASYNC = """
import pytest
from conversations.database.in_tests import UnreachableTransaction

CALL = {"path": "/chat", "data": {"message": "hi", "stream": False}, "content_type": "application/json"}


@pytest.mark.asyncio
@pytest.mark.django_db(transaction=True)
async def test_a_whole_answer(async_client):
    assert (await async_client.post(**CALL)).json()["status"] == "completed"


@pytest.mark.asyncio
@pytest.mark.django_db
async def test_one_transaction_cannot_be_reached(async_client):
    with pytest.raises(UnreachableTransaction, match=r"transaction=True"):
        await async_client.post(**CALL)


@pytest.mark.django_db
def test_a_sync_client(client):
    assert client.post(**CALL).json()["status"] == "completed"


@pytest.mark.django_db(transaction=True)
def test_a_sync_client_in_real_transactions(client):
    assert client.post(**CALL).json()["status"] == "completed"
"""


def server_settings(server: DatabaseServer) -> str:
    port, name = server.port, server.url.rpartition("/")[2]
    user, test = ("chat", "{}") if VENDOR == "postgresql" else ("root", "{'CHARSET': 'utf8mb4'}")
    return (
        f"\nDATABASES = {{'default': {{'ENGINE': 'django.db.backends.{VENDOR}', 'NAME': {name!r}, 'USER': {user!r},"
        f" 'HOST': '127.0.0.1', 'PORT': {port}, 'TEST': {test}}}}}\n"
    )


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Project]:
    with run_upstream_in_thread() as upstream:
        host = Project(tmp_path_factory.mktemp("host"), LLM_API_URL=upstream.url, LLM_MODEL="scripted")
        example = next(block for block in blocks(GUIDE, "python") if "class ConversationTests" in block.text)
        (host.folder / "test_chat.py").write_text(example.text + MORE)
        (host.folder / "test_async.py").write_text(ASYNC)
        if VENDOR == "sqlite":
            yield host
            return
        with DatabaseServer(VENDOR, quick=True) as server:
            with (host.folder / "mysite" / "settings.py").open("a") as file:
                file.write(server_settings(server))
            yield host


def run(project: Project, *arguments: str) -> str:
    env = {**project.variables, "PYTHONPATH": os.pathsep.join([str(project.folder), project.variables["PYTHONPATH"]])}
    done = subprocess.run(
        [sys.executable, *arguments],
        cwd=project.folder,
        env=env,
        capture_output=True,
        text=True,
        timeout=150,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


def test_under_django_s_runner(project: Project) -> None:
    for _again in range(2):
        said = run(project, "-X", "dev", "manage.py", "test", "--no-input", "test_chat")
        assert "Ran 32 tests" in said
        assert "Traceback" not in said
        assert "Warning" not in said
        assert "begins again" not in said


def test_under_pytest_django(project: Project) -> None:
    options = [
        "-q",
        "-p",
        "no:cacheprovider",
        "-p",
        "no:randomly",
        "--create-db",
        "-o",
        "asyncio_default_fixture_loop_scope=function",
    ]
    for _again in range(2):
        said = run(project, "-m", "pytest", *options, "test_chat.py", "test_async.py")
        assert "36 passed" in said
        assert "warning" not in said
        assert "Traceback" not in said
