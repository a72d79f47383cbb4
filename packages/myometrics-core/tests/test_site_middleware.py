"""Caches and languages of the site: no response reaches another user."""

import pytest
from core_test_urls import EchoSerializer
from django.core.cache import cache
from django.http import HttpRequest
from django.utils.translation import override
from django.views.decorators.cache import cache_page
from rest_framework.test import APIRequestFactory, force_authenticate

from myometrics_core.api import ApiView, json_error
from myometrics_core.health.health_views import HealthView

CACHE_MIDDLEWARE = [
    "django.middleware.cache.UpdateCacheMiddleware",
    "django.middleware.gzip.GZipMiddleware",
    "django.middleware.http.ConditionalGetMiddleware",
    "django.middleware.locale.LocaleMiddleware",
    "django.middleware.cache.FetchFromCacheMiddleware",
]


@pytest.fixture
def cached_site(settings):
    settings.MIDDLEWARE = [*CACHE_MIDDLEWARE, *settings.MIDDLEWARE]
    settings.CACHE_MIDDLEWARE_SECONDS = 600
    cache.clear()
    yield
    cache.clear()


@pytest.mark.usefixtures("cached_site", "db", "long_dependency_timeouts")
@pytest.mark.parametrize("path", ["/api/administrators/", "/api/health/", "/api/users/?page=1"])
def test_site_cache_sends_no_response_to_another_user(client, administrator, path):
    anonymous = client.get(path).status_code
    client.force_authenticate(administrator)
    answer = client.get(path)
    assert answer.status_code == 200
    assert answer["Cache-Control"] == "private, no-store"
    assert "ETag" not in answer
    client.force_authenticate(None)
    assert client.get(path).status_code == anonymous


@pytest.mark.usefixtures("long_dependency_timeouts")
def test_cached_view_sends_no_response_to_another_user(administrator):
    cache.clear()
    view = cache_page(600)(HealthView.as_view())
    request = APIRequestFactory().get("/api/health/")
    force_authenticate(request, administrator)
    assert view(request).render().status_code == 200
    assert view(APIRequestFactory().get("/api/health/")).status_code in (401, 403)


@pytest.mark.django_db
@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/api/users/", 200),
        ("HEAD", "/api/users/", 200),
        ("POST", "/api/echo/", 400),
        ("GET", "/api/administrators/", 403),
        ("GET", "/api/no/such/thing", 404),
        ("GET", "/api/faulty/missing/", 404),
        ("DELETE", "/api/echo/", 405),
        ("OPTIONS", "/api/echo/", 405),
        ("GET", "/api/faulty/conflict/", 409),
        ("GET", "/api/faulty/bug/", 500),
    ],
)
def test_responses_may_not_be_cached(client, method, path, status):
    client.raise_request_exception = False
    answer = client.generic(method, path)
    assert answer.status_code == status
    assert answer["Cache-Control"] == "private, no-store"


def test_errors_outside_views_may_not_be_cached():
    assert json_error(404, "Nothing.", "not_found")["Cache-Control"] == "private, no-store"


@pytest.mark.django_db
@pytest.mark.parametrize("path", ["/livez", "/readyz", "/metrics"])
def test_probes_and_metrics_may_not_be_cached(client, settings, path):
    settings.MYOMETRICS = {"METRICS_TOKEN": "token"}
    control = client.get(path, HTTP_AUTHORIZATION="Bearer token")["Cache-Control"]
    assert {"private", "no-store"} <= {directive.strip() for directive in control.split(",")}


@pytest.mark.usefixtures("cached_site", "db")
@pytest.mark.parametrize("languages", [("de", "en"), ("en", "de"), ("de", "fr", "en")])
def test_message_is_in_the_language_of_its_request(client, languages):
    body = {"name": "x" * 31, "tags": ["long"], "details": []}
    texts = {}
    for language in languages:
        answer = client.post("/api/echo/", body, format="json", HTTP_ACCEPT_LANGUAGE=language)
        texts[language] = answer.json()["field_errors"]
    assert texts["en"]["name"] == ["Ensure this field has no more than 30 characters."]
    assert set(texts["de"]) == set(texts["en"]) == {"name", "tags.0", "details"}
    assert all(texts["de"][name] != texts["en"][name] for name in texts["de"])


def test_requests_share_no_serializer(rf):
    seen = []

    class Recording(EchoSerializer):
        def __init__(self, *args, **kwargs):
            super().__init__(*args, **kwargs)
            seen.append(self)

    view = ApiView()
    for language in ("de", "en"):
        view.request = HttpRequest()
        view.request.query_params = rf.get("/?name=Ada").GET
        with override(language):
            assert view.validated_query(Recording) == {"name": "Ada"}
    first, second = seen
    assert first is not second
    assert first.fields["name"] is not second.fields["name"]
