"""GET /api/users/me/activity/ and /api/users/{id}/activity/."""

from __future__ import annotations

import uuid
from datetime import datetime, timedelta, timezone

import pytest
import time_machine

WEDNESDAY = datetime(2026, 7, 1, 12, tzinfo=timezone.utc)

pytestmark = pytest.mark.django_db


@pytest.fixture(autouse=True)
def _wednesday():
    with time_machine.travel(WEDNESDAY, tick=False):
        yield


def mine(client):
    response = client.get("/api/users/me/activity/")
    assert response.status_code == 200
    return response.json()


def test_activity_without_uploads_has_every_field(user, client_of):
    assert mine(client_of(user)) == {
        "uploads_today": 0,
        "uploads_this_week": 0,
        "uploads_this_month": 0,
        "last_login": None,
        "recent_uploads": [],
    }


def test_activity_counts_today_this_week_and_this_month(user, client_of, publish_upload):
    for at in (
        WEDNESDAY.replace(hour=0),
        WEDNESDAY.replace(hour=23, minute=59),
        datetime(2026, 6, 29, tzinfo=timezone.utc),
        datetime(2026, 6, 28, 23, 59, 59, 999999, tzinfo=timezone.utc),
        datetime(2026, 7, 31, 23, tzinfo=timezone.utc),
        datetime(2026, 8, 1, tzinfo=timezone.utc),
        datetime(2025, 7, 1, tzinfo=timezone.utc),
    ):
        publish_upload(user, at=at)
    body = mine(client_of(user))
    counts = [body[f"uploads_{span}"] for span in ("today", "this_week", "this_month")]
    assert counts == [2, 3, 3]


def test_activity_lists_ten_latest_uploads_newest_first(user, make_user, client_of, publish_upload):
    publish_upload(make_user(), upload_id="of-another-user")
    for number in range(12):
        publish_upload(
            user,
            upload_id=f"upload_{number:03}",
            at=WEDNESDAY - timedelta(hours=number),
            filename=f"scan_{number}.jpg",
        )
    publish_upload(user, "upload_failed", "upload_001")
    recent = mine(client_of(user))["recent_uploads"]
    assert [row["id"] for row in recent] == [f"upload_{number:03}" for number in range(10)]
    assert recent[0] == {
        "id": "upload_000",
        "filename": "scan_0.jpg",
        "timestamp": "2026-07-01T12:00:00Z",
        "status": "processing",
    }
    assert recent[1]["status"] == "failed"


def test_administrator_gets_activity_of_any_user(
    administrator, make_user, client_of, publish_upload
):
    user = make_user(last_login=WEDNESDAY)
    publish_upload(user, "upload_completed", "u1", diagnosis="Normal")
    response = client_of(administrator).get(f"/api/users/{user.pk}/activity/")
    assert response.status_code == 200
    assert response.json() == mine(client_of(user))
    assert response.json()["last_login"] == "2026-07-01T12:00:00Z"
    assert response.json()["uploads_today"] == 1


def test_activity_of_users_is_for_administrators_only(user, make_user, client_of):
    response = client_of(user).get(f"/api/users/{make_user().pk}/activity/")
    assert response.status_code == 403
    assert client_of(user).get(f"/api/users/{user.pk}/activity/").status_code == 403


@pytest.mark.parametrize("name", [str(uuid.uuid4()), "7", "x", "9" * 300, "%00", "%ed%a0%80"])
def test_activity_of_unknown_user_is_404(administrator, client_of, name):
    response = client_of(administrator).get(f"/api/users/{name}/activity/")
    assert response.status_code == 404
    if response["Content-Type"].startswith("application/json"):
        assert set(response.json()) == {"detail", "code", "field_errors"}


def test_anonymous_caller_is_rejected(db, client):
    assert client.get("/api/users/me/activity/").status_code in (401, 403)
    assert client.get(f"/api/users/{uuid.uuid4()}/activity/").status_code in (401, 403)


@pytest.mark.parametrize("method", ["post", "put", "patch", "delete"])
def test_activity_endpoint_is_read_only(user, client_of, method):
    assert getattr(client_of(user), method)("/api/users/me/activity/").status_code == 405
