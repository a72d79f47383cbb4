"""Numbered pages with an exact count."""

import pytest
from django.contrib.auth import get_user_model


@pytest.fixture(autouse=True)
def users(db):
    for number in range(45):
        get_user_model().objects.create_user(email=f"p{number:02}@clinic.example", password="x")


def page(client, query=""):
    return client.get(f"/api/users/{query}")


def test_first_page_has_twenty_rows_and_next_link(client):
    body = page(client, "?search=a%20b").json()
    assert body["count"] == 45
    assert body["results"][0] == "p00@clinic.example"
    assert len(body["results"]) == 20
    assert body["next"] == "http://testserver/api/users/?page=2&search=a+b"
    assert body["previous"] is None


def test_last_page_has_the_rest_and_previous_link(client):
    body = page(client, "?page=3").json()
    assert len(body["results"]) == 5
    assert body["next"] is None
    assert body["previous"] == "http://testserver/api/users/?page=2"
    assert page(client, "?page=2").json()["previous"] == "http://testserver/api/users/"


def test_page_size_is_at_most_a_hundred(client):
    assert len(page(client, "?page_size=3").json()["results"]) == 3
    assert len(page(client, "?page_size=100000000000000000000").json()["results"]) == 45


@pytest.mark.parametrize("value", ["0", "-1", "abc", "", "1.5", "١", "%00", "1e3"])
@pytest.mark.parametrize("name", ["page", "page_size"])
def test_invalid_page_number_is_400(client, name, value):
    response = page(client, f"?{name}={value}")
    assert response.status_code == 400
    assert list(response.json()["field_errors"]) == [name]


@pytest.mark.parametrize("number", ["4", "999999999999999999999999999"])
def test_page_past_the_end_is_404(client, number):
    assert page(client, f"?page={number}").status_code == 404


def test_first_page_of_no_rows_is_empty(client):
    get_user_model().objects.all().delete()
    assert page(client).json() == {"count": 0, "next": None, "previous": None, "results": []}
