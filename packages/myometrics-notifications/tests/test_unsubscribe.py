"""Unsubscribing by a link, without signing in (RFC 8058)."""

from __future__ import annotations

from urllib.parse import urlsplit

import pytest
from django.core import signing
from rest_framework.test import APIClient
from specified import ERROR_KEYS

from myometrics_notifications.kinds import kind_named
from myometrics_notifications.models import NotificationSettings
from myometrics_notifications.unsubscribing import unsubscribe_token, unsubscribe_url

pytestmark = pytest.mark.django_db

URL = "/api/notifications/unsubscribe/"
KIND = "upload_completed"


@pytest.fixture
def link(person):
    """Path and query of the link in a mail to ``person``."""
    url = urlsplit(unsubscribe_url(kind=kind_named(KIND), user=person))
    return f"{url.path}?{url.query}"


def switches(person):
    return NotificationSettings.objects.filter(user=person).values(KIND, "analysis_ready").first()


def test_one_click_turns_off_that_kind_alone(link, person):
    response = APIClient(enforce_csrf_checks=True).post(
        link, "List-Unsubscribe=One-Click", content_type="application/x-www-form-urlencoded"
    )

    assert response.status_code == 200
    assert response.json() == {
        "detail": "No mails are sent about: Completed uploads.",
        "kind": KIND,
        "subscribed": False,
    }
    assert switches(person) == {KIND: False, "analysis_ready": True}


def test_a_second_click_does_no_harm(link, person):
    assert [APIClient().post(link).status_code for _ in range(2)] == [200, 200]
    assert switches(person)[KIND] is False


def test_looking_at_the_link_turns_nothing_off(link, person):
    response = APIClient().get(link)

    assert response.status_code == 200
    assert response.json()["subscribed"] is True
    assert switches(person) is None


def test_a_browser_gets_a_page_with_a_button_and_then_a_page_that_says_done(link, person):
    browser = APIClient(HTTP_ACCEPT="text/html,application/xhtml+xml")

    question = browser.get(link)
    answer = browser.post(link)

    assert question.headers["Content-Type"].startswith("text/html")
    assert '<form method="post">' in question.content.decode()
    assert "<form" not in answer.content.decode()
    assert switches(person)[KIND] is False


def test_a_stale_authorization_header_is_ignored(link):
    assert APIClient(HTTP_AUTHORIZATION="Bearer stale").post(link).status_code == 200


@pytest.mark.parametrize("accept", ["application/json", "text/html"])
@pytest.mark.parametrize("method", ["get", "post"])
@pytest.mark.parametrize("token", ["x", "a:b:c", "%00", "%ED%A0%80", "ä" * 200, "🦊"])
def test_a_token_that_is_not_ours_is_a_404_in_json(db, method, token, accept):
    response = getattr(APIClient(HTTP_ACCEPT=accept), method)(f"{URL}?token={token}")

    assert response.status_code in (400, 404)
    assert set(response.json()) == ERROR_KEYS


@pytest.mark.parametrize("query", ["", "?token=", "?token=" + "x" * 1001, "?other=1"])
def test_a_missing_or_endless_token_is_a_400_on_token(db, query):
    response = APIClient().post(f"{URL}{query}")

    assert response.status_code == 400
    assert list(response.json()["field_errors"]) == ["token"]


def test_a_token_signed_for_something_else_is_refused(person):
    foreign = signing.dumps([str(person.pk), KIND], salt="something else")

    assert APIClient().post(f"{URL}?token={foreign}").status_code == 404
    assert switches(person) is None


@pytest.mark.parametrize("payload", [["x", KIND], ["", KIND], ["1", "no_such_kind"]])
def test_a_token_of_nobody_or_nothing_is_a_404(db, payload):
    token = signing.dumps(payload, salt="myometrics_notifications.unsubscribe")

    assert APIClient().post(f"{URL}?token={token}").status_code == 404


def test_the_link_of_a_deleted_person_is_a_404(link, person):
    person.delete()

    assert APIClient().post(link).status_code == 404


def test_the_token_holds_no_address(person):
    token = unsubscribe_token(kind=kind_named(KIND), user=person)

    assert person.email not in str(
        signing.loads(token, salt="myometrics_notifications.unsubscribe")
    )


@pytest.mark.parametrize("method", ["put", "patch", "delete"])
def test_other_methods_are_405(link, method):
    assert getattr(APIClient(), method)(link).status_code == 405
