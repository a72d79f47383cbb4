"""Rules of every endpoint: body limits, principals without a user row, caching."""

import pytest
from api_routes import all_routes, page_routes
from conftest import assert_error, client_of, make_user
from django.core.cache import cache
from rest_framework.test import APIClient
from rest_framework_simplejwt.models import TokenUser

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("cheap_hashes")]

KIB, MIB = 1024, 1024 * 1024
ROUTES = all_routes()
REFRESH = "/api/auth/token/refresh/"


def limit_of(route):
    return 16 * KIB if route.path.startswith("/api/auth/") else 2 * MIB


def body_of(size):
    return b'{"x": "' + b"y" * (size - 9) + b'"}'


@pytest.fixture
def administrator_client(administrator):
    return client_of(administrator)


def test_routes_cover_all_packages():
    assert {route.path.split("/")[2] for route in ROUTES} >= {
        *("auth", "users", "audit-logs", "analytics", "notifications", "health")
    }
    assert len(ROUTES) > 30


@pytest.mark.usefixtures("unlimited")
@pytest.mark.parametrize("route", ROUTES, ids=str)
def test_body_over_the_limit_is_413_and_writes_nothing(route, administrator_client):
    body = body_of(limit_of(route) + 1)
    answer = administrator_client.generic(route.method, route.path, body, "application/json")
    assert_error(answer, 413, code="body_too_large")


@pytest.mark.usefixtures("unlimited")
@pytest.mark.parametrize("route", [r for r in ROUTES if r.reads_body], ids=str)
def test_body_of_exactly_the_limit_is_read(route, administrator_client):
    body = body_of(limit_of(route))
    answer = administrator_client.generic(route.method, route.path, body, "application/json")
    assert answer.status_code not in (413, 415, 429, 500)


@pytest.mark.usefixtures("unlimited")
@pytest.mark.parametrize("route", ROUTES, ids=str)
def test_huge_body_does_not_change_401_405_or_415(route, administrator_client):
    body = body_of(3 * MIB)
    if not route.is_public:
        assert_error(APIClient().generic(route.method, route.path, body, "application/json"), 401)
    answer = administrator_client.generic("TRACE", route.path, body, "application/json")
    assert_error(answer, 405)
    if route.reads_body:
        answer = administrator_client.generic(route.method, route.path, body, "text/plain")
        assert_error(answer, 415)


@pytest.mark.usefixtures("unlimited")
@pytest.mark.parametrize("route", page_routes(), ids=str)
def test_html_page_shows_the_same_errors(route):
    client = APIClient()
    statuses = {
        413: client.generic(route.method, route.path, body_of(17 * KIB), "text/plain"),
        405: client.generic("TRACE", route.path),
        400: client.generic(route.method, route.path),
        404: client.generic(route.method, f"{route.path}?token=x"),
    }
    for status, answer in statuses.items():
        assert answer.status_code == status
        assert answer["Content-Type"] == "text/html; charset=utf-8"
        assert answer["Cache-Control"] == "private, no-store"


def test_throttled_refresh_is_rejected_with_any_body(doctor):
    client = APIClient(REMOTE_ADDR="203.0.113.9")
    huge = body_of(15 * MIB)
    for _ in range(5):
        assert_error(client.generic("POST", REFRESH, huge, "application/json"), 413)
    for body in (huge, b"{", body_of(1000), b'{"refresh": "x"}'):
        answer = client.generic("POST", REFRESH, body, "application/json")
        assert_error(answer, 429, code="throttled")
        assert int(answer["Retry-After"]) >= 1
    elsewhere = APIClient(REMOTE_ADDR="203.0.113.10")
    assert_error(elsewhere.generic("POST", REFRESH, huge, "application/json"), 413)


def test_refresh_with_readable_body_counts_per_session(doctor, settings):
    from myometrics_auth.tokens import refresh_token

    own, other = client_of(doctor), client_of(make_user("other@clinic.example"))
    bodies = [{"refresh": refresh_token(c.session_of_token)} for c in (own, other)]
    answers = [own.post(REFRESH, bodies[0], format="json").status_code for _ in range(6)]
    assert answers == [200] * 5 + [429]
    assert other.post(REFRESH, bodies[1], format="json").status_code == 200


class Service:
    """A principal of the host with the minimal interface of a DRF user."""

    is_authenticated = True


TOKEN_USERS = [
    TokenUser({"user_id": 7, "role": "admin", "is_staff": True, "is_superuser": True}),
    TokenUser({"user_id": "00000000-0000-4000-8000-000000000000"}),
    Service(),
]


@pytest.mark.usefixtures("unlimited")
@pytest.mark.parametrize("principal", TOKEN_USERS, ids=lambda user: type(user).__name__)
@pytest.mark.parametrize("route", [r for r in ROUTES if not r.is_public], ids=str)
def test_principal_without_user_row_is_403(route, principal):
    client = APIClient()
    client.force_authenticate(principal)
    answer = client.generic(route.method, route.path, b"{}", "application/json")
    if route.path == "/api/health/":
        assert answer.status_code == 200
    else:
        assert_error(answer, 403, code="permission_denied")


CACHED = [
    "django.middleware.cache.UpdateCacheMiddleware",
    "django.middleware.http.ConditionalGetMiddleware",
    "django.middleware.cache.FetchFromCacheMiddleware",
]


@pytest.mark.usefixtures("unlimited")
@pytest.mark.parametrize("route", [r for r in ROUTES if r.method == "GET"], ids=str)
def test_cache_does_not_serve_response_to_another_user(route, administrator_client, settings):
    settings.MIDDLEWARE = [*CACHED[:2], *settings.MIDDLEWARE, CACHED[2]]
    cache.clear()
    answer = administrator_client.get(route.path)
    assert answer["Cache-Control"] == "private, no-store"
    if not route.is_public:
        assert_error(APIClient().get(route.path), 401)
    cache.clear()


@pytest.mark.parametrize("path", ["schema/", "docs/", "nowhere/", "auth/user", "%ff/"])
def test_other_api_responses_are_not_cached(path):
    assert APIClient().get(f"/api/{path}")["Cache-Control"] == "private, no-store"


def test_responses_outside_views_are_not_cached(settings):
    settings.ALLOWED_HOSTS = ["api.clinic.example"]
    answer = APIClient().get("/api/health/", HTTP_HOST="evil.example")
    assert_error(answer, 400)
    assert answer["Cache-Control"] == "private, no-store"
