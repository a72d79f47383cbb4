"""Unsubscribing by a link, without signing in (RFC 8058)."""

from __future__ import annotations

from urllib.parse import urlsplit

import pytest
from django.core import signing
from rest_framework.response import Response
from rest_framework.test import APIClient

from myometrics_core.api import rate_limiter
from myometrics_notifications.kinds import kind_named
from myometrics_notifications.models import NotificationSettings
from myometrics_notifications.unsubscribe_links import unsubscribe_token, unsubscribe_url

pytestmark = pytest.mark.django_db

URL = "/api/notifications/unsubscribe/"
KIND = "upload_completed"


@pytest.fixture
def link(user):
    """Path and query of the link in a mail to ``user``."""
    url = urlsplit(unsubscribe_url(kind=kind_named(KIND), user=user))
    return f"{url.path}?{url.query}"


@pytest.fixture
def limits(settings):
    """Set the rates of buckets; nothing is counted before."""

    def set_rates(**rates):
        settings.MYOMETRICS = {**settings.MYOMETRICS, "RATE_LIMITS": rates}
        rate_limiter.reset()

    yield set_rates
    rate_limiter.reset()


def page_of(response):
    """The HTML of ``response``, which must be a whole page."""
    assert response.headers["Content-Type"] == "text/html; charset=utf-8"
    page = response.content.decode()
    assert page.startswith("<!DOCTYPE html>")
    return page


def switches(user):
    return NotificationSettings.objects.filter(user=user).values(KIND, "analysis_ready").first()


def test_one_click_turns_off_only_that_kind(link, user):
    response = APIClient(enforce_csrf_checks=True).post(
        link, "List-Unsubscribe=One-Click", content_type="application/x-www-form-urlencoded"
    )

    assert response.status_code == 200
    assert "Completed uploads" in page_of(response)
    assert switches(user) == {KIND: False, "analysis_ready": True}


def test_second_click_changes_nothing(link, user):
    assert [APIClient().post(link).status_code for _ in range(2)] == [200, 200]
    assert switches(user)[KIND] is False


def test_get_turns_nothing_off(link, user):
    response = APIClient().get(link)

    assert response.status_code == 200
    assert '<form method="post">' in page_of(response)
    assert switches(user) is None


def test_page_after_unsubscribing_has_no_button(link, user):
    answer = APIClient().post(link)

    assert "<form" not in page_of(answer)
    assert switches(user)[KIND] is False


def test_stale_authorization_header_is_ignored(link):
    assert APIClient(HTTP_AUTHORIZATION="Bearer stale").post(link).status_code == 200


@pytest.mark.parametrize("accept", ["application/json", "text/html", "*/*", ""])
def test_every_response_is_an_uncached_page(link, accept):
    client = APIClient(HTTP_ACCEPT=accept)

    for answer in (client.get(link), client.get(f"{URL}?token=x"), client.post(link)):
        page_of(answer)
        assert answer.headers["Cache-Control"] == "private, no-store"


@pytest.mark.parametrize("method", ["get", "post"])
@pytest.mark.parametrize("token", ["x", "a:b:c", "%00", "%ED%A0%80", "ä" * 200, "🦊", "<b>"])
def test_invalid_token_is_an_error_page_without_the_token(db, method, token):
    response = getattr(APIClient(), method)(f"{URL}?token={token}")

    assert response.status_code in (400, 404)
    page = page_of(response)
    assert "This did not work" in page
    assert "<b>" not in page


@pytest.mark.parametrize("query", ["", "?token=", "?token=" + "x" * 1001, "?other=1"])
def test_missing_or_too_long_token_is_a_400(db, query):
    response = APIClient().post(f"{URL}{query}")

    assert response.status_code == 400
    assert "token" in page_of(response)


def test_only_post_counts_in_the_auth_bucket(link, limits):
    limits(auth="2/hour", api="1/hour")
    client = APIClient()

    looked = [client.get(link).status_code for _ in range(4)]
    clicked = [client.post(link) for _ in range(3)]

    assert looked == [200] * 4
    assert [answer.status_code for answer in clicked] == [200, 200, 429]
    assert "This did not work" in page_of(clicked[-1])
    assert int(clicked[-1].headers["Retry-After"]) > 0


def test_users_behind_one_address_are_counted_separately(make_user, limits):
    limits(auth="1/hour")
    links = [
        f"{URL}?token={unsubscribe_token(kind=kind_named(KIND), user=make_user())}"
        for _ in range(3)
    ]

    assert [APIClient().post(link).status_code for link in links] == [200] * 3
    assert [APIClient().post(f"{URL}?token=x").status_code for _ in range(2)] == [404, 429]


def answer_in_another_shape(exc, context):
    return Response(["no", "detail"], status=404)


def test_error_of_a_site_exception_handler_is_a_page(link, settings):
    settings.MYOMETRICS = {**settings.MYOMETRICS, "EXCEPTION_HANDLER": answer_in_another_shape}
    response = APIClient().get(f"{URL}?token=x")

    assert response.status_code == 404
    assert "Not Found" in page_of(response)


def test_server_error_is_a_page(link, monkeypatch):
    monkeypatch.setattr("myometrics_notifications.views.message_is_wanted", lambda **_: 1 / 0)
    response = APIClient(raise_request_exception=False).get(link)

    assert response.status_code == 500
    assert "A server error occurred." in page_of(response)


def test_token_with_another_salt_is_refused(user):
    foreign = signing.dumps([str(user.pk), KIND], salt="something else")

    assert APIClient().post(f"{URL}?token={foreign}").status_code == 404
    assert switches(user) is None


@pytest.mark.parametrize("payload", [["x", KIND], ["", KIND], ["1", "no_such_kind"]])
def test_token_of_unknown_user_or_kind_is_a_404(db, payload):
    token = signing.dumps(payload, salt="myometrics_notifications.unsubscribe")

    assert APIClient().post(f"{URL}?token={token}").status_code == 404


def test_link_of_a_deleted_user_is_a_404(link, user):
    user.delete()

    assert APIClient().post(link).status_code == 404


def test_token_contains_no_address(user):
    token = unsubscribe_token(kind=kind_named(KIND), user=user)

    assert user.email not in str(signing.loads(token, salt="myometrics_notifications.unsubscribe"))


@pytest.mark.parametrize("method", ["put", "patch", "delete"])
def test_other_methods_are_a_405(link, method):
    response = getattr(APIClient(), method)(link)

    assert response.status_code == 405
    assert "This did not work" in page_of(response)
