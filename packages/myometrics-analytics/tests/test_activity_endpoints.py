"""GET /api/users/me/activity/ and /api/users/{id}/activity/."""

from __future__ import annotations

import uuid
from datetime import datetime, timedelta, timezone
from typing import Any

import pytest
import time_machine

WEDNESDAY = datetime(2026, 7, 1, 12, tzinfo=timezone.utc)

pytestmark = pytest.mark.django_db


@pytest.fixture(autouse=True)
def _wednesday() -> Any:
    with time_machine.travel(WEDNESDAY, tick=False):
        yield


def mine(client: Any) -> Any:
    response = client.get("/api/users/me/activity/")
    assert response.status_code == 200
    return response.json()


def test_a_newcomers_activity_is_empty_in_the_full_shape(person, as_person):
    assert mine(as_person(person)) == {
        "uploads_today": 0,
        "uploads_this_week": 0,
        "uploads_this_month": 0,
        "last_login": None,
        "recent_uploads": [],
    }


def test_today_this_week_from_monday_and_this_month(person, as_person, tell):
    for at in (
        WEDNESDAY.replace(hour=0),
        WEDNESDAY.replace(hour=23, minute=59),
        datetime(2026, 6, 29, tzinfo=timezone.utc),
        datetime(2026, 6, 28, 23, 59, 59, 999999, tzinfo=timezone.utc),
        datetime(2026, 7, 31, 23, tzinfo=timezone.utc),
        datetime(2026, 8, 1, tzinfo=timezone.utc),
        datetime(2025, 7, 1, tzinfo=timezone.utc),
    ):
        tell(person, at=at)
    body = mine(as_person(person))
    counts = [body[f"uploads_{span}"] for span in ("today", "this_week", "this_month")]
    assert counts == [2, 3, 3]


def test_the_ten_latest_uploads_newest_first(person, make_person, as_person, tell):
    tell(make_person(), upload_id="somebody else's")
    for number in range(12):
        tell(
            person,
            upload_id=f"upload_{number:03}",
            at=WEDNESDAY - timedelta(hours=number),
            filename=f"scan_{number}.jpg",
        )
    tell(person, "upload_failed", "upload_001")
    recent = mine(as_person(person))["recent_uploads"]
    assert [row["id"] for row in recent] == [f"upload_{number:03}" for number in range(10)]
    assert recent[0] == {
        "id": "upload_000",
        "filename": "scan_0.jpg",
        "timestamp": "2026-07-01T12:00:00Z",
        "status": "processing",
    }
    assert recent[1]["status"] == "failed"


def test_an_administrator_sees_anybodys_activity_in_the_same_shape(
    administrator, make_person, as_person, tell
):
    person = make_person(last_login=WEDNESDAY)
    tell(person, "upload_completed", "u1", diagnosis="Normal")
    response = as_person(administrator).get(f"/api/users/{person.pk}/activity/")
    assert response.status_code == 200
    assert response.json() == mine(as_person(person))
    assert response.json()["last_login"] == "2026-07-01T12:00:00Z"
    assert response.json()["uploads_today"] == 1


def test_other_people_may_not(person, make_person, as_person):
    response = as_person(person).get(f"/api/users/{make_person().pk}/activity/")
    assert response.status_code == 403
    assert as_person(person).get(f"/api/users/{person.pk}/activity/").status_code == 403


@pytest.mark.parametrize("name", [str(uuid.uuid4()), "7", "x", "9" * 300, "%00", "%ed%a0%80"])
def test_people_who_do_not_exist_are_a_404(administrator, as_person, name):
    response = as_person(administrator).get(f"/api/users/{name}/activity/")
    assert response.status_code == 404
    if response["Content-Type"].startswith("application/json"):
        assert set(response.json()) == {"detail", "code", "field_errors"}


def test_nobody_signed_in_is_refused(db, client):
    assert client.get("/api/users/me/activity/").status_code in (401, 403)
    assert client.get(f"/api/users/{uuid.uuid4()}/activity/").status_code in (401, 403)


@pytest.mark.parametrize("method", ["post", "put", "patch", "delete"])
def test_activity_is_read_only(person, as_person, method):
    assert getattr(as_person(person), method)("/api/users/me/activity/").status_code == 405
