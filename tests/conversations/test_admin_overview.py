"""The overview in admin: what it shows, to whom, at what cost; and the stop of an answer."""

from __future__ import annotations

import asyncio
import re
import uuid
from datetime import UTC, date, datetime, time, timedelta
from types import SimpleNamespace
from typing import Any

import pytest
from django.contrib.admin import AdminSite
from django.contrib.admin.models import LogEntry
from django.contrib.auth.models import Permission, User
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.urls import path, reverse
from django.utils import timezone, translation

from conversations import services
from conversations.access.rules import Caller
from conversations.admin import OverviewAdmin, charts
from conversations.database import db, sizes
from conversations.engine import engines, local_processes, workers
from conversations.engine.reader import open_reader
from conversations.engine.supervisor import Supervisor
from conversations.engine.workers import Heartbeat
from conversations.limits import usage
from conversations.limits.usage import Spender
from conversations.models import Conversation, DailyUsage, Generation, Message, Overview, Relay, Worker
from conversations.services import overview
from llmproviders.breaker import FAILURES, breaker
from llmproviders.models import Preset
from tests.upstream import ScriptedUpstream, answer

from .helpers import flat

pytestmark = pytest.mark.django_db

URL = reverse("admin:conversations_overview_changelist")
SEE, STOP = "view_overview", "stop_generation"
TEXTS = ("TITLE-canary", "PROMPT-canary", "CONTENT-canary", "REASON-canary", "ERROR-canary")


def staff(*names: str) -> Client:
    """A member of the staff with these permissions alone."""
    user = User.objects.create_user(f"staff-{uuid.uuid4().hex[:8]}", is_staff=True)
    user.user_permissions.set(Permission.objects.filter(codename__in=names))
    client = Client()
    client.force_login(user)
    return client


def shown(client: Client, **query: str) -> str:
    response = client.get(URL, query)
    assert response.status_code == 200
    return response.content.decode()


def _main(html: str) -> str:
    return html[html.index('class="ov"') : html.index("</main>")]


def today() -> date:
    return datetime.now(UTC).date()


def running(worker: Worker | None = None, **values: Any) -> Generation:
    conversation = Conversation.objects.create(title=TEXTS[0], system_prompt=TEXTS[1], **values)
    message = Message.objects.create(
        conversation=conversation, role="assistant", content=TEXTS[2], reasoning=TEXTS[3], model_type="fast"
    )
    making = {"worker": worker, "error_message": TEXTS[4], **values}
    return Generation.objects.create(message=message, active_for=conversation, **making)


def ended(model_type: str = "fast", seconds: float = 1.0, **values: Any) -> Generation:
    generation = running()
    Message.objects.filter(pk=generation.message_id).update(model_type=model_type, model=f"{model_type}-1")
    began = timezone.now() - timedelta(minutes=1)
    times = {"created_at": began, "first_token_at": began + timedelta(seconds=seconds), "ended_at": timezone.now()}
    Generation.objects.filter(pk=generation.pk).update(
        **{"status": "completed", "active_for": None, **times, **values}
    )
    return generation


# Who may see it -----------------------------------------------------------------------------------------------


def test_it_is_for_those_with_the_permission_and_linked_for_them_alone() -> None:
    may, may_not = staff(SEE), staff("view_conversation")
    assert f'href="{URL}"' in may.get(reverse("admin:index")).content.decode()
    assert f'href="{URL}"' not in may_not.get(reverse("admin:index")).content.decode()
    assert shown(may)
    assert may_not.get(URL).status_code == 403
    assert Client().get(URL).status_code == 302


def test_nobody_adds_changes_or_deletes_there(admin_client: Client) -> None:
    DailyUsage.objects.create(user_identifier="kim", day=today())
    for rest in ("add/", f"{DailyUsage.objects.get().pk}/change/", f"{DailyUsage.objects.get().pk}/delete/"):
        assert admin_client.get(URL + rest).status_code in (302, 403)
    assert admin_client.post(URL, {"action": "delete_selected", "_selected_action": [1], "post": "yes"})
    assert DailyUsage.objects.exists()


own_site = AdminSite(name="ops")
own_site.register(Overview, OverviewAdmin)
urlpatterns = [path("admin/", own_site.urls)]


def test_it_works_in_an_admin_site_of_a_project_s_own(admin_client: Client, settings: Any) -> None:
    settings.ROOT_URLCONF = __name__
    generation = running()
    url = "/admin/conversations/overview/"
    assert f'href="{url}"' in admin_client.get("/admin/").content.decode()
    html = admin_client.get(url).content.decode()
    stop = f"{url}stop/{generation.pk}/"
    assert f'action="{stop}"' in html
    answer = admin_client.post(stop)
    assert (answer.status_code, answer.headers["Location"]) == (302, url)


def test_no_text_of_anybody_is_on_it(admin_client: Client) -> None:
    running()
    ended(status="failed", error_code="upstream_error")
    html = shown(admin_client)
    assert "upstream_error" in html
    assert [text for text in TEXTS if text in html] == []


def test_no_style_and_no_script_stands_in_it(admin_client: Client) -> None:
    DailyUsage.objects.create(user_identifier="kim", day=today(), model_type="fast", requests=3)
    html = shown(admin_client)
    main = _main(html)
    assert "<svg" in main
    assert not re.search(r"\sstyle=|<style|<script|\son[a-z]+=", main)
    assert "style-src 'self';" in admin_client.get(URL).headers["Content-Security-Policy"]


# What runs ----------------------------------------------------------------------------------------------------


def test_what_runs_is_shown_with_whose_and_since_when() -> None:
    owner = User.objects.create_user("kim")
    generation = running(owner=owner, user_identifier=f"user:{owner.pk}")
    Relay.objects.create(user_identifier="ann", model_type="passed")
    html = shown(staff(SEE))
    assert str(generation.message.conversation.session_id) in html
    for word in ("kim", "fast", "ann", "passed on, not stored"):
        assert word in html
    assert "/change/" not in _main(html)  # that page is not theirs
    assert "/change/" in shown(staff(SEE, "view_conversation"))


def test_an_answer_is_stopped_by_those_who_may_and_by_post_alone() -> None:
    generation = running()
    url = reverse("admin:conversations_overview_stop", args=[generation.pk])
    looker, stopper = staff(SEE), staff(SEE, STOP)
    assert url not in shown(looker)
    assert looker.post(url).status_code == 403
    assert staff(STOP).post(url).status_code == 403
    assert url in shown(stopper)
    assert stopper.get(url).status_code == 405
    assert Generation.objects.get().status == "running"
    html = stopper.post(url, follow=True).content.decode()
    assert "The answer was stopped." in html
    assert Generation.objects.get().status == "stopped"
    assert LogEntry.objects.get().get_change_message() == "Stopped."
    assert "had ended already" in stopper.post(url, follow=True).content.decode()
    gone = reverse("admin:conversations_overview_stop", args=[uuid.uuid4()])
    assert "had ended already" in stopper.post(gone, follow=True).content.decode()


def test_an_answer_that_is_passed_on_is_stopped_likewise() -> None:
    relay = Relay.objects.create(user_identifier="kim", model_type="fast")
    url = reverse("admin:conversations_overview_stop_relay", args=[relay.pk])
    looker, stopper = staff(SEE), staff(SEE, STOP)
    assert url not in shown(looker)
    assert looker.post(url).status_code == 403
    assert staff(STOP).post(url).status_code == 403
    assert "Stop the answer of fast that is passed on" in shown(stopper)
    assert stopper.get(url).status_code == 405
    assert not Relay.objects.get().is_stopped
    html = stopper.post(url, follow=True).content.decode()
    assert "The answer was stopped." in html
    assert url not in html
    assert Relay.objects.get().is_stopped, "its process settles it"
    assert LogEntry.objects.get().get_change_message() == "Stopped."
    assert "had ended already" in stopper.post(url, follow=True).content.decode()


def test_a_stop_from_another_site_is_refused() -> None:
    generation = running()
    client = Client(enforce_csrf_checks=True)
    client.force_login(User.objects.create_superuser("root"))
    url = reverse("admin:conversations_overview_stop", args=[generation.pk])
    assert client.post(url).status_code == 403
    assert Generation.objects.get().status == "running"


async def test_a_stop_reaches_the_process_that_makes_the_answer(
    engine: Supervisor, upstream: ScriptedUpstream, settings: Any
) -> None:
    settings.LLMPROVIDERS = {**settings.LLMPROVIDERS, "API_URL": upstream.url, "MODEL": "scripted"}
    upstream.script = [answer("a", "b", stall=1)]
    ids = await db.write(services.start_reply, caller=Caller(sees_all=True), message="hi")
    reader = await open_reader(ids.generation_id)
    await upstream.until(lambda: upstream.calls)

    def stop_in_admin() -> int:
        client = Client()
        client.force_login(User.objects.create_superuser("root", password="x"))
        return client.post(reverse("admin:conversations_overview_stop", args=[ids.generation_id])).status_code

    assert await db.write(stop_in_admin) == 302
    async with asyncio.timeout(10):
        *_others, done = await flat(reader.batches())
        await upstream.closed_by_client()
    assert done.ending.status == "stopped"


# What was used ------------------------------------------------------------------------------------------------


def use(day: int, model_type: str, **counts: int) -> None:
    DailyUsage.objects.create(
        user_identifier=f"user-{day}-{model_type}",
        day=today() - timedelta(days=day),
        model_type=model_type,
        **counts,
    )


def test_what_was_used_is_drawn_by_day_and_model_and_written_beside(admin_client: Client) -> None:
    use(0, "fast", requests=3, prompt_tokens=1_000, completion_tokens=500, cost=2_500_000_000)
    use(6, "fast", estimated_requests=1, estimated_prompt_tokens=10, failed_requests=1)
    use(0, "slow", requests=1, prompt_tokens=1, completion_tokens=1)
    use(7, "fast", requests=100)  # a day too early
    answers, tokens, cost, failed = admin_client.get(URL).context["charts"]
    assert [(row.name, row.total, row.share) for row in answers.rows] == [("fast", "4", "80%"), ("slow", "1", "20%")]
    assert (answers.total, tokens.total, cost.total, failed.total) == ("5", "1,512", "2.50", "1")
    assert len(answers.bars) == 3
    assert admin_client.get(URL, {"days": "30"}).context["charts"][0].total == "105"
    html = shown(admin_client)
    assert html.count('role="img"') == 4
    assert html.count("<figure") == html.count("</figure>") == 4
    assert ": 3</title></rect>" in html


def test_bars_stand_on_each_other_and_fit_into_the_drawing() -> None:
    first = date(2026, 1, 1)
    rows = [overview.Usage(first, name, number, 0, 0, 0) for name, number in (("a", 7), ("b", 3))]
    measure = charts.Measure("Answers", lambda row: row.requests, charts.whole)
    chart = charts.draw(measure, rows, charts.names_of(rows, "others"), first, 7)
    lower, upper = chart.bars
    assert (lower.series, upper.series) == (0, 1)
    assert float(upper.y) + float(upper.height) == pytest.approx(float(lower.y), abs=0.2)
    assert float(lower.y) + float(lower.height) == pytest.approx(charts.HEIGHT - charts.BOTTOM, abs=0.2)
    assert float(upper.y) >= charts.TOP
    assert [line.text for line in chart.lines] == ["0", "3", "6", "9", "12"]


@pytest.mark.parametrize("highest", [0.0, 1e-9, 0.0004, 0.3, 1, 3, 4, 9.5, 10, 99, 100, 123_456_789])
def test_a_scale_ends_above_all_values_and_not_far_above(highest: float) -> None:
    top = charts._round_up(highest)
    assert highest <= top
    assert not highest or top <= max(10 * highest, 2e-9)
    assert top < 4 or top % 4 == 0, "there are no halves of answers"
    assert all(len(charts.short(top * part / 4)) <= 7 for part in range(5))


def test_many_models_share_the_last_colour() -> None:
    rows = [overview.Usage(date(2026, 1, 1), f"model-{number:02}", 100 - number, 0, 0, 0) for number in range(9)]
    names = charts.names_of(rows, "all others")
    assert len(set(names.values())) == charts.COLOURS + 1
    assert names["model-08"] == (charts.COLOURS, "all others")
    assert set(charts.names_of(rows[:6], "all others").values()) == {(n, f"model-{n:02}") for n in range(6)}


@pytest.mark.parametrize("language", ["en", "de", "fr"])
def test_coordinates_are_numbers_in_every_language(language: str) -> None:
    first = date(2026, 1, 1)
    rows = [overview.Usage(first, "a", 7, 0, 0, 0)]
    with translation.override(language):
        measure = charts.Measure("Answers", lambda row: row.requests, charts.whole)
        chart = charts.draw(measure, rows, charts.names_of(rows, "others"), first, 7)
    numbers = [text for bar in chart.bars for text in (bar.x, bar.y, bar.width, bar.height)]
    numbers += [text for label in (*chart.lines, *chart.days) for text in (label.x, label.y)]
    assert [text for text in numbers if not re.fullmatch(r"[0-9]+\.[0-9]", text)] == []


def test_a_name_that_a_model_gave_itself_is_shown_as_text(admin_client: Client) -> None:
    use(0, "<script>alert(1)</script>", requests=1)
    html = shown(admin_client)
    assert "<script>alert" not in html
    assert "&lt;script&gt;alert(1)" in html


def test_failed_answers_are_counted_by_day_and_outlive_their_conversations() -> None:
    spender = Spender("kim", "fast", 5, None, None)
    for status in ("completed", "failed", "stopped"):
        usage.record([usage.spent(spender, status=status, text="")], today())
    assert DailyUsage.objects.get().failed_requests == 1
    (row,) = overview.usage(today(), today())
    assert (row.requests, row.failed) == (3, 1)


def test_those_who_used_most_come_first_and_accounts_by_their_names(admin_client: Client) -> None:
    owner = User.objects.create_user("kim")
    DailyUsage.objects.create(user_identifier=f"user:{owner.pk}", day=today(), prompt_tokens=50)
    DailyUsage.objects.create(user_identifier="user:999999", day=today(), prompt_tokens=40)
    for number in range(25):
        DailyUsage.objects.create(user_identifier=f"label-{number:02}", day=today(), prompt_tokens=number + 1)
    names = [name for name, *_ in admin_client.get(URL).context["spenders"]]
    assert names[:3] == ["kim", "user:999999", "label-24"]
    assert len(names) == overview.MOST_USERS


# Models -------------------------------------------------------------------------------------------------------


def test_failing_models_come_first_then_slow_ones() -> None:
    for seconds in (1, 2, 9):
        ended("slow", seconds)
    ended("fast", 0.1)
    ended("broken", status="failed", error_code="upstream_error", first_token_at=None)
    ended("old", 50, created_at=timezone.now() - timedelta(days=8))
    running()
    states = overview.endpoints(timezone.now() - timedelta(days=7))
    assert [state.model_type for state in states] == ["broken", "slow", "fast"]
    assert (states[0].failures, states[0].worst_error, states[0].model) == (1, "upstream_error", "broken-1")
    assert states[1].times[:2] == (2.0, 9.0)


def test_first_tokens_are_drawn_by_day_with_each_model_beside(admin_client: Client) -> None:
    noon = datetime.combine(today(), time(12), UTC)
    for days, seconds in ((1, 3.0), (1, 5.0), (1, 7.0), (2, 1.0), (40, 90.0)):
        began = noon - timedelta(days=days)
        ended(
            "slow" if days == 1 else "fast",
            seconds,
            created_at=began,
            first_token_at=began + timedelta(seconds=seconds),
        )
    chart = admin_client.get(URL).context["first_tokens"]
    assert [bar.hint.rpartition(": ")[2] for bar in chart.bars] == ["1.00 s", "5.00 s"]
    assert float(chart.bars[1].height) == pytest.approx(5 * float(chart.bars[0].height), abs=0.3)
    assert [(row.name, row.total, row.share) for row in chart.rows] == [
        ("slow", "5.00 s", "7.00 s"),
        ("fast", "1.00 s", "1.00 s"),
    ]
    html = shown(admin_client)
    assert "First token by day" in html
    assert '<rect class="ov-sNone' not in html


def test_a_model_that_is_passed_over_here_says_so(admin_client: Client) -> None:
    preset = Preset.objects.create(type="lame", name="Lame", api_url="https://models.example.com/v1", model="m")
    ended("custom")
    try:
        for _number in range(FAILURES):
            breaker.failed(preset.endpoint())
        assert re.search(r"passed over for \d+ s", shown(admin_client))
    finally:
        breaker.forget()
    states = {state.model_type: state for state in overview.endpoints(timezone.now() - timedelta(days=7))}
    assert states["custom"].passed_over is None
    assert "lame" not in states


# Processes and tables -----------------------------------------------------------------------------------------


def test_whether_a_process_lives_is_told_as_far_as_it_is_known(monkeypatch: pytest.MonkeyPatch) -> None:
    own, seen, still, strange = (Worker.objects.create(host=f"elsewhere-{n}", pid=n) for n in range(4))
    here_dead = Worker.objects.create(host="here", pid=2**31 - 5, process_start=1)
    monkeypatch.setattr(local_processes, "SPACE", "here")
    heartbeat = Heartbeat(worker_id=own.pk, beats=10, seen={seen.pk: (5, 9), still.pk: (5, 1)})
    monkeypatch.setattr(engines, "heartbeats", lambda: [heartbeat])
    lives = {item.worker.pk: item.lives for item in overview.processes()}
    assert [lives[worker.pk] for worker in (own, seen, still, strange, here_dead)] == [True, True, False, None, False]


def test_each_engine_tells_its_heart(engine: Supervisor) -> None:
    assert engine.heartbeat in engines.heartbeats()


def test_running_answers_are_counted_by_process(admin_client: Client) -> None:
    busy = Worker.objects.create(host="busy a b", pid=1)
    Worker.objects.create(host="idle", pid=2)
    for _number in range(2):
        running(worker=busy)
    Relay.objects.create(worker=busy, model_type="x")
    found = {item.host: item.all_answers for item in admin_client.get(URL).context["processes"]}
    assert found == {"busy": 3, "idle": 0}
    assert workers.seems_alive(busy, []) is None


def test_tables_are_counted_up_to_a_bound_or_estimated(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sizes, "MOST_COUNTED", 3)
    for _number in range(5):
        Conversation.objects.create()
    with CaptureQueriesContext(connection) as queries:
        (size,) = sizes.sizes([Conversation])
    assert len(queries) == 1
    if connection.vendor == "sqlite":
        assert (size.kind, size.rows) == ("at most", 5)
        assert (sizes.total_bytes() or 0) > 1000
        assert sizes.sizes([Worker])[0] == sizes.TableSize(Worker, 0, "exact")
    else:
        assert size.kind == "estimate"
        assert (size.bytes or 0) > 0
        assert sizes.total_bytes() is None


def test_a_database_that_estimates_nothing_is_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sizes, "connection", SimpleNamespace(vendor="oracle"))
    monkeypatch.setattr(sizes, "MOST_COUNTED", 3)
    Conversation.objects.create()
    assert sizes.sizes([Conversation]) == [sizes.TableSize(Conversation, 1, "exact")]
    for _number in range(5):
        Conversation.objects.create()
    assert sizes.sizes([Conversation]) == [sizes.TableSize(Conversation, 3, "at least")]


# What it costs ------------------------------------------------------------------------------------------------


def test_it_costs_as_many_queries_with_much_as_with_little(admin_client: Client) -> None:
    shown(admin_client)
    counts = []
    for number in (1, 30):
        for index in range(number):
            owner = User.objects.create_user(f"owner-{number}-{index}")
            running(owner=owner, user_identifier=f"user:{owner.pk}", worker=Worker.objects.create(host="h", pid=index))
            ended(f"model-{index}")
            DailyUsage.objects.create(user_identifier=f"user:{owner.pk}", day=today(), model_type=f"m-{index}")
            Relay.objects.create(owner=owner, user_identifier=f"user:{owner.pk}", model_type="x")
        with CaptureQueriesContext(connection) as queries:
            shown(admin_client, days="30")
        counts.append(len(queries))
        heavy = re.compile(r"\"(content|reasoning|title|system_prompt|error_message)\"")
        assert [query["sql"] for query in queries if heavy.search(query["sql"].partition(" FROM ")[0])] == []
    assert counts[0] == counts[1] <= 20
