"""Principals without a row in the user table, such as those of stateless tokens."""

import pytest
from django.contrib.auth import get_user_model
from django.contrib.auth.models import AnonymousUser

from myometrics_core.users import is_administrator
from myometrics_core.users.user_model import has_user_row


class TokenUser:
    """As simplejwt's ``TokenUser``: all attributes come from the claims."""

    is_authenticated = is_active = is_staff = True
    pk = id = "00000000-0000-0000-0000-000000000007"
    role = "admin"


class ServicePrincipal:
    """The minimum that DRF requires of a user."""

    is_authenticated = True


@pytest.fixture(params=[TokenUser, ServicePrincipal])
def as_principal(client, request):
    client.force_authenticate(request.param())
    return client


@pytest.mark.parametrize(
    ("method", "path"),
    [("GET", "/api/export/"), ("GET", "/api/administrators/"), ("POST", "/api/account/")],
)
def test_principal_without_a_user_row_is_403(as_principal, db, method, path):
    answer = as_principal.generic(method, path)
    assert answer.status_code == 403
    assert set(answer.json()) == {"detail", "code", "field_errors"}
    assert answer.json()["code"] == "permission_denied"


@pytest.mark.usefixtures("long_dependency_timeouts")
def test_principal_without_a_user_row_may_read_health(as_principal, db):
    assert as_principal.get("/api/health/").status_code == 200


def test_principal_without_a_user_row_counts_by_its_address(as_principal, db):
    statuses = [as_principal.post("/api/account/").status_code for _ in range(6)]
    assert statuses == [403] * 5 + [429]
    assert as_principal.post("/api/account/", REMOTE_ADDR="203.0.113.5").status_code == 403


def test_principal_without_a_user_row_remembers_no_write(as_principal, db, settings):
    settings.MYOMETRICS = {"READ_REPLICAS": ["replica"]}
    assert as_principal.post("/api/account/").status_code == 403


@pytest.mark.parametrize("principal", [None, AnonymousUser(), TokenUser(), ServicePrincipal()])
def test_principal_without_a_user_row_is_no_administrator(principal, settings):
    settings.MYOMETRICS = {"IS_ADMINISTRATOR": lambda user: True}
    assert not is_administrator(principal)


def test_user_row_is_an_instance_of_the_user_model_with_a_key(
    user, django_assert_num_queries, settings
):
    with django_assert_num_queries(0):
        assert has_user_row(user)
        assert not has_user_row(get_user_model()(pk=None))
        assert not has_user_row(AnonymousUser())
