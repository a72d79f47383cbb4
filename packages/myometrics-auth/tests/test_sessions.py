"""List and end one's own sessions."""

from __future__ import annotations

import uuid
from datetime import timedelta

import pytest
from conftest import later, refresh_by, sign_out

from myometrics_auth.jobs import Sweep
from myometrics_auth.models import Session
from myometrics_auth.services.sessions import sessions_sweep
from myometrics_core.jobs import Job, enqueue, run_job
from myometrics_core.times import utc_now

pytestmark = pytest.mark.django_db

SESSION_KEYS = {
    "id",
    "device",
    "address",
    "first_seen",
    "last_seen",
    "expires",
    "second_factor",
    "current",
}


class TestSessionList:
    def test_list_shows_device_address_and_times(self, doctor, sign_in):
        client = sign_in(doctor, HTTP_USER_AGENT="Firefox/150", REMOTE_ADDR="192.0.2.7")
        answer = client.get("/api/auth/sessions/")
        assert answer.status_code == 200
        assert set(answer.json()) == {"count", "next", "previous", "results"}
        (session,) = answer.json()["results"]
        assert set(session) == SESSION_KEYS
        assert (session["device"], session["address"]) == ("Firefox/150", "192.0.2.7")
        assert session["current"] is True
        assert all(session[name].endswith("Z") for name in ("first_seen", "last_seen", "expires"))

    def test_list_shows_own_live_sessions_latest_first(self, doctor, make_user, sign_in):
        sign_in(make_user())
        first, second, ended = sign_in(doctor), sign_in(doctor), sign_in(doctor)
        sign_out(ended, ended.tokens["refresh"])
        sessions = second.get("/api/auth/sessions/").json()["results"]
        assert [session["current"] for session in sessions] == [True, False]
        with later(minutes=5):
            refresh_by(first, first.tokens["refresh"])
            sessions = second.get("/api/auth/sessions/").json()["results"]
        assert [session["current"] for session in sessions] == [False, True]

    def test_cuts_a_long_user_agent(self, doctor, sign_in):
        client = sign_in(doctor, HTTP_USER_AGENT="x" * 5000)
        (session,) = client.get("/api/auth/sessions/").json()["results"]
        assert session["device"] == "x" * 512

    def test_needs_a_token(self, api):
        assert api.get("/api/auth/sessions/").status_code == 401


class TestEndingSessions:
    def test_of_one_refuses_its_tokens_at_once(self, doctor, sign_in, api):
        here, there = sign_in(doctor), sign_in(doctor)
        sessions = here.get("/api/auth/sessions/").json()["results"]
        (other,) = [session["id"] for session in sessions if not session["current"]]
        answer = here.delete(f"/api/auth/sessions/{other}/")
        assert (answer.status_code, answer.content) == (204, b"")
        assert there.get("/api/auth/user/").status_code == 401
        assert refresh_by(api, there.tokens["refresh"]).status_code == 401
        assert here.get("/api/auth/user/").status_code == 200
        assert here.delete(f"/api/auth/sessions/{other}/").status_code == 404

    def test_of_all_others_leaves_this_one(self, doctor, make_user, sign_in):
        here, there, other = sign_in(doctor), sign_in(doctor), sign_in(make_user())
        assert here.delete("/api/auth/sessions/").status_code == 204
        assert here.get("/api/auth/user/").status_code == 200
        assert there.get("/api/auth/user/").status_code == 401
        assert other.get("/api/auth/user/").status_code == 200

    def test_of_the_current_one_signs_out(self, doctor, sign_in):
        client = sign_in(doctor)
        (session,) = client.get("/api/auth/sessions/").json()["results"]
        assert client.delete(f"/api/auth/sessions/{session['id']}/").status_code == 204
        assert client.get("/api/auth/user/").status_code == 401

    def test_ending_session_of_another_user_is_a_404(self, doctor, make_user, sign_in):
        other = sign_in(make_user())
        client = sign_in(doctor)
        for key in (Session.objects.exclude(user=doctor).get().pk, uuid.uuid4()):
            assert client.delete(f"/api/auth/sessions/{key}/").status_code == 404
        assert other.get("/api/auth/user/").status_code == 200

    def test_needs_a_token(self, api):
        assert api.delete("/api/auth/sessions/").status_code == 401
        assert api.delete(f"/api/auth/sessions/{uuid.uuid4()}/").status_code == 401


class TestSessionSweep:
    def test_sweep_deletes_ended_sessions_in_batches(self, doctor, sign_in):
        for _ in range(5):
            sign_in(doctor)
        live = session_id(sign_in(doctor))
        Session.objects.exclude(pk=live).end()
        assert sessions_sweep(batch=2) == 0
        with later(days=31):
            Session.objects.filter(pk=live).update(expires_at=utc_now() + timedelta(days=1))
            assert sessions_sweep(batch=2) == 5
        assert Session.objects.count() == 1

    def test_sweep_deletes_expired_sessions(self, doctor, sign_in):
        sign_in(doctor)
        with later(days=36):
            assert sessions_sweep() == 0
        with later(days=38):
            assert sessions_sweep() == 1

    def test_sweep_is_an_hourly_job(self, doctor, sign_in, clock):
        sign_in(doctor)
        clock.shift(timedelta(days=38))
        enqueue(Sweep.name, key="")
        assert run_job(Sweep.name)
        assert not Session.objects.exists()
        assert Job.objects.get(kind=Sweep.name).run_at == utc_now() + timedelta(hours=1)

    def test_sweep_respects_session_retention(self, doctor, sign_in, settings):
        settings.MYOMETRICS_AUTH = {"SESSION_RETENTION": timedelta(0)}
        client = sign_in(doctor)
        sign_out(client, client.tokens["refresh"])
        assert sessions_sweep() == 1


def session_id(client):
    sessions = client.get("/api/auth/sessions/?page_size=100").json()["results"]
    return next(session["id"] for session in sessions if session["current"])
