"""Idle timeout, number of sessions and rotation of refresh tokens."""

from __future__ import annotations

import threading
from collections import Counter
from datetime import timedelta

import jwt
import pytest
import time_machine
from conftest import PASSWORD, refresh_by, send, sign_out
from django.contrib.auth import get_user_model
from django.db import connection
from django.test import Client, RequestFactory, override_settings
from django.test.utils import CaptureQueriesContext
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from hypothesis.extra.django import TestCase
from rest_framework.test import APIClient

from myometrics_auth.models import Session, SessionQuerySet
from myometrics_auth.services.notices import SEND_NOTICE
from myometrics_auth.services.sessions import session_start, sessions_sweep
from myometrics_auth.tokens import access_token, refresh_token
from myometrics_core.api import rate_limiter
from myometrics_core.db import atomic_write
from myometrics_core.db.replicas import _current
from myometrics_core.jobs import Job
from myometrics_core.times import utc_now

pytestmark = pytest.mark.django_db

IDLE = timedelta(minutes=30)
PROFILE = "/api/auth/user/"


def statuses(outcomes):
    errors = [outcome for outcome in outcomes if isinstance(outcome, Exception)]
    assert not errors, errors
    return Counter(answer.status_code for answer in outcomes)


def updates(queries):
    return [query["sql"] for query in queries if query["sql"].startswith("UPDATE")]


@pytest.fixture
def idle_timeout(settings):
    settings.MYOMETRICS_AUTH = {"SESSION_IDLE_TIMEOUT": IDLE, "ACCESS_TOKEN_LIFETIME": IDLE * 4}


@pytest.fixture
def rotation(settings):
    settings.MYOMETRICS_AUTH = {"ROTATE_REFRESH_TOKENS": True}


@pytest.fixture
def root(db):
    return get_user_model().objects.create_superuser("root@clinic.example", PASSWORD)


@pytest.fixture
def browser(root):
    """A browser in which ``root`` has signed in to the admin site."""
    browser = Client()
    answer = browser.post("/admin/login/", {"username": root.email, "password": PASSWORD})
    assert answer.status_code == 302
    return browser


@pytest.mark.usefixtures("idle_timeout")
class TestIdleTimeout:
    def test_unused_session_is_over(self, clock, doctor, sign_in):
        client, other = sign_in(doctor), sign_in(doctor)
        clock.shift(IDLE - timedelta(seconds=1))
        assert client.get(PROFILE).status_code == 200
        clock.shift(2)
        answer = other.get(PROFILE)
        assert (answer.status_code, answer.json()["code"]) == (401, "token_not_valid")
        assert refresh_by(other, other.tokens["refresh"]).status_code == 401
        assert sign_out(client, other.tokens["refresh"]).status_code == 400
        assert client.get("/api/auth/sessions/").json()["count"] == 1

    def test_used_session_goes_on(self, clock, doctor, sign_in):
        client = sign_in(doctor)
        for _ in range(6):
            clock.shift(IDLE - timedelta(seconds=1))
            assert client.get(PROFILE).status_code == 200
            client.credentials(HTTP_AUTHORIZATION=f"Bearer {access_token(Session.objects.get())}")

    def test_refresh_counts_as_use(self, clock, doctor, sign_in):
        client = sign_in(doctor)
        for _ in range(3):
            clock.shift(IDLE - timedelta(seconds=1))
            assert refresh_by(client, client.tokens["refresh"]).status_code == 200
        assert client.get(PROFILE).status_code == 200

    def test_use_is_written_once_a_minute(self, clock, doctor, sign_in):
        client = sign_in(doctor)
        written = []
        for _ in range(13):
            with CaptureQueriesContext(connection) as queries:
                assert client.get(PROFILE).status_code == 200
            written.append(len(updates(queries)))
            clock.shift(10)
        assert written == [0] * 6 + [1] + [0] * 5 + [1]

    def test_only_the_minute_s_first_use_costs_more_than_one_query(
        self, clock, doctor, sign_in, django_assert_num_queries
    ):
        client = sign_in(doctor)
        with django_assert_num_queries(1):
            client.get(PROFILE)
        clock.shift(60)
        client.get(PROFILE)
        with django_assert_num_queries(1):
            client.get(PROFILE)

    def test_refused_requests_are_no_use(self, clock, doctor, sign_in, settings):
        client = sign_in(doctor)
        session = Session.objects.get()
        clock.shift(timedelta(minutes=5))
        assert APIClient(HTTP_AUTHORIZATION="Bearer x").get(PROFILE).status_code == 401
        expired = APIClient(HTTP_AUTHORIZATION=f"Bearer {client.tokens['access']}")
        assert send(expired, "post", "auth/logout/", {"refresh": "x"}).status_code == 400
        settings.MYOMETRICS_AUTH = {
            **settings.MYOMETRICS_AUTH,
            "MFA_REQUIRED_ROLES": ["doctor"],
        }
        assert client.get("/api/auth/sessions/").status_code == 403
        session.refresh_from_db()
        assert session.last_used_at is None

    def test_session_of_the_previous_release_counts_from_its_refresh(self, clock, doctor, sign_in):
        client = sign_in(doctor)
        Session.objects.update(refreshed_at=utc_now() - IDLE + timedelta(seconds=1))
        assert client.get(PROFILE).status_code == 200
        Session.objects.update(refreshed_at=utc_now() - IDLE, last_used_at=None)
        assert client.get(PROFILE).status_code == 401

    def test_list_shows_the_last_use(self, clock, doctor, sign_in):
        used, refreshed = sign_in(doctor), sign_in(doctor)
        clock.shift(timedelta(minutes=5))
        refresh_by(refreshed, refreshed.tokens["refresh"])
        clock.shift(timedelta(minutes=5))
        sessions = used.get("/api/auth/sessions/").json()["results"]
        assert [row["current"] for row in sessions] == [True, False]
        assert [row["last_seen"][11:16] for row in sessions] == ["09:10", "09:05"]

    def test_short_timeout_does_not_end_sessions_in_use(self, clock, doctor, sign_in, settings):
        settings.MYOMETRICS_AUTH = {"SESSION_IDLE_TIMEOUT": timedelta(minutes=1)}
        client = sign_in(doctor)
        for _ in range(9):
            clock.shift(29)
            assert client.get(PROFILE).status_code == 200

    def test_admin_site_signs_an_idle_browser_out(self, clock, browser):
        clock.shift(IDLE - timedelta(seconds=1))
        with CaptureQueriesContext(connection) as queries:
            assert browser.get("/admin/").status_code == 200
        assert len([sql for sql in updates(queries) if "last_used_at" in sql]) == 1
        clock.shift(IDLE - timedelta(seconds=1))
        assert browser.get("/admin/").status_code == 200
        clock.shift(IDLE)
        assert browser.get("/admin/").status_code == 302
        assert "sessionid" not in {name for name, one in browser.cookies.items() if one.value}

    def test_sweep_ends_idle_sessions(self, clock, doctor, sign_in, settings):
        for _ in range(3):
            sign_in(doctor)
        clock.shift(IDLE / 2)
        in_use = sign_in(doctor)
        clock.shift(IDLE / 2)
        assert sessions_sweep(batch=2) == 0
        assert Session.objects.filter(ended_at=utc_now()).count() == 3
        settings.MYOMETRICS_AUTH = {}
        assert Session.objects.live().count() == 1
        assert in_use.get(PROFILE).status_code == 200

    def test_live_and_over_are_opposites(self, clock, doctor, sign_in):
        for _ in range(4):
            sign_in(doctor)
        first, second, *_others = Session.objects.all()
        Session.objects.filter(pk=first.pk).update(ended_at=utc_now())
        Session.objects.filter(pk=second.pk).update(last_used_at=utc_now() + IDLE / 2)
        clock.shift(IDLE)
        assert list(Session.objects.live()) == [second]
        assert Session.objects.over().count() == 3
        assert [session.is_live for session in Session.objects.live()] == [True]
        assert not any(session.is_live for session in Session.objects.over())


class TestUnwritableDatabase:
    @pytest.mark.django_db(transaction=True)
    def test_read_only_database_still_serves_reads(
        self, idle_timeout, clock, doctor, sign_in, database_vendor
    ):
        client = sign_in(doctor)
        clock.shift(60)
        set_read_only(database_vendor, True)
        try:
            assert client.get(PROFILE).status_code == 200
            with atomic_write() if database_vendor == "postgresql" else threading.Lock():
                Session.objects.get().record_use()
                assert Session.objects.count() == 1  # the transaction goes on
        finally:
            set_read_only(database_vendor, False)
        assert client.get(PROFILE).status_code == 200
        assert Session.objects.get().last_used_at == utc_now()


def test_use_is_written_to_the_primary(idle_timeout, clock, doctor, sign_in, settings):
    settings.DATABASE_ROUTERS = ["myometrics_core.db.ReplicaRouter"]
    sign_in(doctor)
    session = Session.objects.get()
    clock.shift(60)
    token = _current.set("unreachable replica")
    try:
        session.record_use()
    finally:
        _current.reset(token)
    assert Session.objects.get().last_used_at == utc_now()


def set_read_only(vendor, is_on):
    with connection.cursor() as cursor:
        if vendor == "sqlite":
            cursor.execute(f"PRAGMA query_only = {int(is_on)}")
        else:
            cursor.execute(f"SET default_transaction_read_only = {is_on}")


def test_without_timeout_no_use_is_written(clock, doctor, sign_in, django_assert_num_queries):
    client = sign_in(doctor)
    clock.shift(timedelta(minutes=10))
    with django_assert_num_queries(1):
        assert client.get(PROFILE).status_code == 200
    assert Session.objects.get().last_used_at is None


@pytest.mark.django_db(transaction=True)
@pytest.mark.usefixtures("idle_timeout")
def test_concurrent_uses_are_written_once(clock, doctor, sign_in, run_concurrently, monkeypatch):
    sign_in(doctor)
    sessions = [Session.objects.get() for _ in range(20)]
    rows = []
    update = SessionQuerySet.update

    def counted(queryset, **values):
        changed = update(queryset, **values)
        rows.append(changed)
        return changed

    monkeypatch.setattr(SessionQuerySet, "update", counted)
    for number in range(1, 4):
        clock.shift(60)
        assert run_concurrently([session.record_use for session in sessions]) == [None] * 20
        assert (sum(rows), len(rows)) == (number, 20 * number)


class TestSessionsPerUser:
    @pytest.fixture(autouse=True)
    def _limited(self, settings):
        settings.MYOMETRICS_AUTH = {"SESSIONS_PER_USER": 2}

    def test_sign_in_ends_the_oldest(self, clock, doctor, make_user, sign_in, published):
        other = sign_in(make_user())
        clients = []
        for _ in range(3):
            clients.append(sign_in(doctor))
            clock.shift(1)
        assert [client.get(PROFILE).status_code for client in clients] == [401, 200, 200]
        assert other.get(PROFILE).status_code == 200
        (event,) = [event for event in published if event.action == "session_ended"]
        first = Session.objects.filter(user=doctor).order_by("created_at")[0]
        assert (event.resource_id, event.actor_id) == (str(first.pk), doctor.pk)
        assert event.details == {"user_id": doctor.pk}

    def test_sessions_that_are_over_do_not_count(self, clock, doctor, sign_in):
        first, second = sign_in(doctor), sign_in(doctor)
        clock.shift(1)
        sign_out(second, second.tokens["refresh"])
        third = sign_in(doctor)
        assert [client.get(PROFILE).status_code for client in (first, third)] == [200, 200]

    def test_lower_limit_counts_at_the_next_sign_in(self, clock, doctor, sign_in, settings):
        first, second = sign_in(doctor), sign_in(doctor)
        settings.MYOMETRICS_AUTH = {"SESSIONS_PER_USER": 1}
        assert [client.get(PROFILE).status_code for client in (first, second)] == [200, 200]
        third = sign_in(doctor)
        answers = [client.get(PROFILE).status_code for client in (first, second, third)]
        assert answers == [401, 401, 200]

    def test_signing_in_again_in_a_browser_ends_no_other_device(
        self, clock, root, sign_in, browser
    ):
        elsewhere = Session.objects.get()
        Session.objects.filter(pk=elsewhere.pk).update(created_at=utc_now())
        phone = sign_in(root)
        Session.objects.exclude(pk=elsewhere.pk).update(created_at=utc_now() - timedelta(days=1))
        answer = browser.post("/admin/login/", {"username": root.email, "password": PASSWORD})
        assert answer.status_code == 302
        assert phone.get(PROFILE).status_code == 200
        assert browser.get("/admin/").status_code == 200
        assert not Session.objects.live().filter(pk=elsewhere.pk).exists()

    def test_browser_sign_in_ends_the_oldest(self, root, sign_in, clock):
        clients = [sign_in(root), sign_in(root)]
        Session.objects.filter(pk=Session.objects.all()[0].pk).update(
            created_at=utc_now() - timedelta(days=1)
        )
        browser = Client()
        browser.post("/admin/login/", {"username": root.email, "password": PASSWORD})
        assert browser.get("/admin/").status_code == 200
        answers = [client.get(PROFILE).status_code for client in clients]
        assert sorted(answers) == [200, 401]

    def test_a_sign_in_that_fails_ends_nothing(self, doctor, sign_in):
        clients = [sign_in(doctor), sign_in(doctor)]
        wrong = {"email": doctor.email, "password": "wrong"}
        assert send(APIClient(), "post", "auth/login/", wrong).status_code == 401
        assert [client.get(PROFILE).status_code for client in clients] == [200, 200]


@pytest.mark.django_db(transaction=True)
def test_concurrent_sign_ins_keep_the_limit(doctor, run_concurrently, settings, published):
    settings.MYOMETRICS_AUTH = {"SESSIONS_PER_USER": 3}
    body = {"email": doctor.email, "password": PASSWORD}
    answers = run_concurrently(lambda: send(APIClient(), "post", "auth/login/", body), times=20)
    assert statuses(answers) == {200: 20}
    assert Session.objects.live().count() == 3
    newest = Session.objects.order_by("-created_at")[:3]
    assert set(Session.objects.live()) == set(newest)
    assert [event.action for event in published].count("session_ended") == 17


def refreshed(token):
    answer = refresh_by(APIClient(), token)
    assert answer.status_code == 200, answer.json()
    return answer.json()


def is_refused(token):
    answer = refresh_by(APIClient(), token)
    return (answer.status_code, answer.json().get("code")) == (401, "token_not_valid")


@pytest.mark.usefixtures("rotation")
class TestRotation:
    def test_refresh_returns_a_new_refresh_token(self, clock, doctor, sign_in):
        first = sign_in(doctor).tokens["refresh"]
        answer = refreshed(first)
        assert set(answer) == {"access", "refresh"}
        claims = [
            jwt.decode(token, options={"verify_signature": False})
            for token in (first, answer["refresh"])
        ]
        assert claims[0]["jti"] != claims[1]["jti"]
        assert claims[0]["exp"] == claims[1]["exp"]
        assert set(claims[0]) == set(claims[1])
        header = f"Bearer {answer['access']}"
        assert APIClient().get(PROFILE, HTTP_AUTHORIZATION=header).status_code == 200

    def test_chain_of_refreshes_ends_with_the_session(self, clock, doctor, sign_in):
        token = sign_in(doctor).tokens["refresh"]
        for _ in range(7):
            token = refreshed(token)["refresh"]
            clock.shift(timedelta(days=1))
        assert is_refused(token)

    def test_retry_within_ten_seconds_gets_the_same_token(self, clock, doctor, sign_in, published):
        first = sign_in(doctor).tokens["refresh"]
        second = refreshed(first)["refresh"]
        clock.shift(9)
        assert refreshed(first)["refresh"] == second
        assert refreshed(second)["refresh"] not in {first, second}
        assert "refresh_token_reused" not in [event.action for event in published]

    def test_reuse_after_ten_seconds_ends_the_session(self, clock, doctor, sign_in, published):
        client, other = sign_in(doctor), sign_in(doctor)
        first = client.tokens["refresh"]
        second = refreshed(first)
        clock.shift(10)
        assert is_refused(first)
        assert is_refused(second["refresh"])
        header = f"Bearer {second['access']}"
        assert APIClient().get(PROFILE, HTTP_AUTHORIZATION=header).status_code == 401
        assert other.get(PROFILE).status_code == 200
        assert is_refused(first)
        (event,) = [event for event in published if event.action == "refresh_token_reused"]
        session = Session.objects.exclude(ended_at=None).get()
        assert (event.resource_type, event.resource_id) == ("session", str(session.pk))
        assert event.actor_id == doctor.pk

    def test_reuse_of_an_older_token_ends_the_session_at_once(self, clock, doctor, sign_in):
        first = sign_in(doctor).tokens["refresh"]
        third = refreshed(refreshed(first)["refresh"])["refresh"]
        assert is_refused(first)
        assert is_refused(third)

    def test_reuse_notifies_the_user_once(self, clock, doctor, sign_in):
        first = sign_in(doctor).tokens["refresh"]
        refreshed(first)
        clock.shift(11)
        assert is_refused(first)
        assert is_refused(first)
        (job,) = Job.objects.filter(kind=SEND_NOTICE, payload__notice="refresh_token_reused")
        assert job.payload["user"] == doctor.pk

    def test_tokens_from_before_work_once(self, clock, doctor, sign_in, settings):
        settings.MYOMETRICS_AUTH = {}
        first = sign_in(doctor).tokens["refresh"]
        assert set(refreshed(first)) == {"access"}
        assert set(refreshed(first)) == {"access"}
        settings.MYOMETRICS_AUTH = {"ROTATE_REFRESH_TOKENS": True}
        second = refreshed(first)["refresh"]
        clock.shift(11)
        assert set(refreshed(second)) == {"access", "refresh"}
        assert is_refused(first)

    def test_rotated_tokens_go_on_working_when_switched_off(self, clock, doctor, sign_in, settings):
        first = sign_in(doctor).tokens["refresh"]
        second = refreshed(first)["refresh"]
        settings.MYOMETRICS_AUTH = {}
        assert refreshed(first)["refresh"] == second  # a retry
        for _ in range(3):
            assert set(refreshed(second)) == {"access"}
            clock.shift(timedelta(hours=1))
        assert is_refused(first)
        assert is_refused(second)

    @pytest.mark.parametrize("which", ["first", "second"])
    def test_sign_out_takes_any_refresh_token_of_the_session(
        self, clock, doctor, sign_in, published, which
    ):
        client = sign_in(doctor)
        tokens = {"first": client.tokens["refresh"]}
        tokens["second"] = refreshed(tokens["first"])["refresh"]
        clock.shift(60)
        assert sign_out(client, tokens[which]).status_code == 200
        assert is_refused(tokens["second"])
        assert "refresh_token_reused" not in [event.action for event in published]

    def test_access_tokens_from_before_the_rotation_stay_valid(self, doctor, sign_in):
        client = sign_in(doctor)
        refreshed(client.tokens["refresh"])
        assert client.get(PROFILE).status_code == 200

    def test_tokens_of_one_session_share_a_rate_limit(self, clock, doctor, sign_in, settings):
        limits = {"auth": "5/minute", "api": "100/minute", "export": "2/hour"}
        settings.MYOMETRICS = {**settings.MYOMETRICS, "RATE_LIMITS": limits}
        rate_limiter.reset()
        token = sign_in(doctor).tokens["refresh"]
        for _ in range(5):
            token = refreshed(token)["refresh"]
        assert refresh_by(APIClient(), token).status_code == 429
        assert set(refreshed(sign_in(doctor).tokens["refresh"])) == {"access", "refresh"}

    def test_costs_two_queries(self, doctor, sign_in, django_assert_num_queries):
        token = sign_in(doctor).tokens["refresh"]
        with django_assert_num_queries(2):
            refreshed(token)

    def test_inactive_user_gets_no_token_and_no_notice(self, clock, doctor, sign_in, published):
        first = sign_in(doctor).tokens["refresh"]
        second = refreshed(first)["refresh"]
        get_user_model().objects.update(is_active=False)
        clock.shift(60)
        assert is_refused(first)
        assert is_refused(second)
        assert "refresh_token_reused" not in [event.action for event in published]


@pytest.mark.django_db(transaction=True)
@pytest.mark.usefixtures("rotation")
class TestRotationRaces:
    def test_concurrent_refreshes_of_one_token_make_one_chain(
        self, clock, doctor, sign_in, run_concurrently, published
    ):
        token = sign_in(doctor).tokens["refresh"]
        for _ in range(3):
            answers = run_concurrently(lambda token=token: refresh_by(APIClient(), token), times=20)
            assert statuses(answers) == {200: 20}
            (token,) = {answer.json()["refresh"] for answer in answers}
        assert "refresh_token_reused" not in [event.action for event in published]

    def test_refresh_between_read_and_write_of_another_makes_one_chain(
        self, clock, doctor, sign_in, monkeypatch
    ):
        token = sign_in(doctor).tokens["refresh"]
        between = []

        def refresh_first():
            if not between:
                between.append(None)
                between[0] = refreshed(token)["refresh"]
            return utc_now()

        monkeypatch.setattr("myometrics_auth.services.sessions.utc_now", refresh_first)
        assert [refreshed(token)["refresh"]] == between
        assert refreshed(between[0])["refresh"] != token

    def test_concurrent_reuse_is_recorded_once(
        self, clock, doctor, sign_in, run_concurrently, published
    ):
        first = sign_in(doctor).tokens["refresh"]
        second = refreshed(first)["refresh"]
        clock.shift(30)
        answers = run_concurrently(
            [lambda: refresh_by(APIClient(), first) for _ in range(10)]
            + [lambda: refresh_by(APIClient(), second) for _ in range(2)]
        )
        assert statuses(answers[:10]) == {401: 10}
        assert not Session.objects.live().exists()
        assert is_refused(second)
        assert [event.action for event in published].count("refresh_token_reused") == 1


class TestRotationInAnyOrder(TestCase):
    """Property: only the newest token, or for ten seconds the one before it, gets a token."""

    @hypothesis_settings(max_examples=40)
    @given(
        steps=st.lists(
            st.tuples(st.integers(0, 3), st.sampled_from([0, 4, 9, 10, 600]), st.booleans()),
            max_size=8,
        )
    )
    def test_old_tokens_end_the_session(self, steps):
        with time_machine.travel("2026-03-02T09:00:10+00:00", tick=False) as clock:
            user = get_user_model().objects.create_user("any@clinic.example", PASSWORD)
            session = session_start(user=user, request=RequestFactory().get("/"))
            tokens, rotated_at, is_live = [refresh_token(session)], None, True
            for back, seconds, is_on in steps:
                clock.shift(seconds)
                age = min(back, len(tokens) - 1)
                with override_settings(MYOMETRICS_AUTH={"ROTATE_REFRESH_TOKENS": is_on}):
                    answer = refresh_by(APIClient(), tokens[-1 - age])
                is_retry = age == 1 and (utc_now() - rotated_at).total_seconds() < 10
                is_live = is_live and (age == 0 or is_retry)
                assert answer.status_code == (200 if is_live else 401)
                if not is_live:
                    continue
                refresh = answer.json().get("refresh")
                if age == 0 and is_on:
                    assert refresh not in {None, *tokens}
                    tokens, rotated_at = [*tokens, refresh], utc_now()
                else:
                    assert refresh == (tokens[-1] if is_retry else None)
