"""Specification: "GET /audit-logs/"."""

from __future__ import annotations

from datetime import datetime, timezone
from typing import Any

import pytest

from myometrics_audit.listing import Selection, entries_select
from myometrics_audit.listing.pagination import EntryPaginator
from myometrics_audit.sealing import LogVerifier, seal_pending

pytestmark = pytest.mark.django_db

URL = "/api/audit-logs/"


def at(day, hour=12, minute=0):
    return datetime(2025, 8, day, hour, minute, tzinfo=timezone.utc)


@pytest.fixture(params=["unsealed", "sealed", "half sealed"])
def log(request, write, user, administrator):
    """60 entries over ten days of August 2025, oldest first."""
    entries = []
    for number in range(60):
        entries.append(
            write(
                user=user if number % 3 else administrator,
                action="upload_created" if number % 2 else "viewed",
                resource_type="upload" if number % 5 else "report",
                resource_id=f"r{number % 20}",
                data_subject=("", "p1", "p2 ")[number % 3],
                timestamp=at(1 + number // 6, number % 6 * 4),
            )
        )
        if request.param == "half sealed" and number == 40:
            list(seal_pending())
    if request.param == "sealed":
        list(seal_pending())
    return entries


def test_list_has_the_specified_shape(log, administrator, client_of):
    answer = client_of(administrator).get(URL)
    assert answer.status_code == 200
    body = answer.json()
    assert list(body) == ["count", "next", "previous", "results"]
    assert body["count"] == 60
    assert body["next"] == "http://testserver/api/audit-logs/?page=2"
    assert body["previous"] is None
    newest = log[-1]
    assert body["results"][0] == {
        "id": newest.pk,
        "user_id": str(newest.user_id),
        "action": "upload_created",
        "resource_type": "upload",
        "resource_id": "r19",
        "timestamp": "2025-08-10T20:00:00Z",
        "ip_address": None,
        "user_agent": "",
        "details": {},
    }


def test_pages_together_are_the_whole_log_newest_first(log, administrator, client_of):
    ids: list[int] = []
    url: str | None = URL + "?page_size=7"
    while url:
        body = client_of(administrator).get(url).json()
        ids += [row["id"] for row in body["results"]]
        url = body["next"]
    assert ids == [entry.pk for entry in reversed(log)]


FILTERS: list[tuple[dict[str, str], Any]] = [
    ({"action": "viewed"}, lambda e: e.action == "viewed"),
    ({"resource_type": "report"}, lambda e: e.resource_type == "report"),
    ({"action": "nothing"}, lambda e: False),
    (
        {"action": "viewed", "resource_type": "upload"},
        lambda e: e.action == "viewed" and e.resource_type == "upload",
    ),
    ({"resource_id": "r3"}, lambda e: e.resource_id == "r3"),
    ({"resource_id": "R3"}, lambda e: False),
    (
        {"resource_id": "r3", "action": "upload_created", "resource_type": "upload"},
        lambda e: (e.resource_id, e.resource_type) == ("r3", "upload"),
    ),
    ({"resource_id": "r3", "action": "viewed"}, lambda e: False),
    (
        {"resource_id": "r9", "start_date": "2025-08-03", "end_date": "2025-08-09"},
        lambda e: e.resource_id == "r9" and at(3, 0) <= e.timestamp < at(10, 0),
    ),
    ({"data_subject": "p1"}, lambda e: e.data_subject == "p1"),
    ({"data_subject": "p2 "}, lambda e: e.data_subject == "p2 "),
    ({"data_subject": "p2"}, lambda e: False),
    (
        {"data_subject": "p1", "action": "viewed", "start_date": "2025-08-03"},
        lambda e: (e.data_subject, e.action) == ("p1", "viewed") and e.timestamp >= at(3, 0),
    ),
    ({"start_date": "2025-08-04"}, lambda e: e.timestamp >= at(4, 0)),
    ({"end_date": "2025-08-04"}, lambda e: e.timestamp < at(5, 0)),
    (
        {"start_date": "2025-08-03", "end_date": "2025-08-03"},
        lambda e: at(3, 0) <= e.timestamp < at(4, 0),
    ),
    (
        {"start_date": "2025-08-03", "end_date": "2025-08-09", "action": "viewed"},
        lambda e: at(3, 0) <= e.timestamp < at(10, 0) and e.action == "viewed",
    ),
]
CHOOSING_ALL: list[tuple[dict[str, str], Any]] = [
    ({"start_date": "0001-01-01", "end_date": "9999-12-31"}, lambda e: True),
    ({"action": "", "user_id": "", "resource_id": "", "start_date": ""}, lambda e: True),
    ({"unknown": "x"}, lambda e: True),
]


@pytest.mark.parametrize(("query", "keep"), [*FILTERS, *CHOOSING_ALL], ids=str)
@pytest.mark.parametrize("by_user", [False, True])
def test_list_filters_combine_and_count_exactly(
    log,
    user,
    administrator,
    client_of,
    query,
    keep,
    by_user,
):
    expected = [entry.pk for entry in reversed(log) if keep(entry)]
    if by_user:
        query = {**query, "user_id": str(user.pk)}
        expected = [entry.pk for entry in reversed(log) if keep(entry) and entry.user_id == user.pk]
    body = client_of(administrator).get(URL, {**query, "page_size": "100"}).json()
    assert body["count"] == len(expected)
    assert [row["id"] for row in body["results"]] == expected


def test_list_of_an_unknown_user_is_empty(log, administrator, client_of):
    query = {"user_id": "00000000-0000-4000-8000-000000000000"}
    body = client_of(administrator).get(URL, query).json()
    assert body == {"count": 0, "next": None, "previous": None, "results": []}


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("user_id", "abc"),
        ("user_id", "9" * 400),
        ("user_id", "\x00"),
        ("action", "x" * 51),
        ("action", "a\x00"),
        ("resource_type", "x" * 51),
        ("resource_id", "x" * 101),
        ("resource_id", "a\x00"),
        ("data_subject", "x" * 101),
        ("data_subject", "a\x00"),
        ("start_date", "yesterday"),
        ("start_date", "2025-02-30"),
        ("start_date", "20250819"),
        ("start_date", "2025-W34-2"),
        ("start_date", "2025-08-19T00:00:00Z"),
        ("start_date", "٢٠٢٥-٠٨-١٩"),
        ("end_date", "0000-01-01"),
        ("page", "0"),
        ("page", "-1"),
        ("page", "x"),
        ("page", "1.5"),
        ("page_size", "0"),
        ("page_size", "many"),
    ],
)
def test_list_with_invalid_parameter_returns_400_with_its_name(
    administrator, client_of, name, value
):
    answer = client_of(administrator).get(URL, {name: value})
    assert answer.status_code == 400
    assert list(answer.json()["field_errors"]) == [name]


def test_list_with_end_before_start_returns_400(administrator, client_of):
    query = {"start_date": "2025-08-02", "end_date": "2025-08-01"}
    answer = client_of(administrator).get(URL, query)
    assert answer.status_code == 400
    assert list(answer.json()["field_errors"]) == ["start_date"]


@pytest.mark.parametrize("page", ["4", "99999999999999999999999999"])
def test_page_past_the_end_returns_404(log, administrator, client_of, page):
    answer = client_of(administrator).get(URL, {"page": page})
    assert answer.status_code == 404
    assert answer.json()["code"] == "not_found"


def test_page_links_keep_the_other_parameters(log, administrator, client_of):
    query = {"action": "viewed", "page_size": "10", "page": "2"}
    body = client_of(administrator).get(URL, query).json()
    for link, page in ((body["next"], "page=3"), (body["previous"], None)):
        assert "action=viewed" in link
        assert "page_size=10" in link
        assert page is None or page in link


def test_page_has_at_most_100_rows(log, write, administrator, client_of):
    for _ in range(50):
        write()
    body = client_of(administrator).get(URL, {"page_size": "5000"}).json()
    assert len(body["results"]) == 100


def test_list_requires_an_administrator(user, client_of):
    answer = client_of(user).get(URL)
    assert answer.status_code == 403
    assert answer.json()["code"] == "permission_denied"


@pytest.mark.parametrize(("query", "keep"), FILTERS, ids=str)
@pytest.mark.parametrize("size", [1, 4, 7])
def test_deep_pages_equal_pages_found_by_skipping(
    log,
    administrator,
    client_of,
    monkeypatch,
    query,
    keep,
    size,
):
    monkeypatch.setattr("myometrics_audit.listing.pages.MAX_SHALLOW_OFFSET", 0)
    expected = [entry.pk for entry in reversed(log) if keep(entry)]
    client = client_of(administrator)
    for page in range(1, len(expected) // size + 1, 2):
        body = client.get(URL, {**query, "page": page, "page_size": size}).json()
        assert body["count"] == len(expected)
        assert [row["id"] for row in body["results"]] == expected[(page - 1) * size : page * size]


@pytest.mark.parametrize("sealed", [True, False])
@pytest.mark.parametrize(
    ("span", "months"),
    [
        ({}, range(12)),
        ({"end_date": "2024-06-15"}, range(6)),
        ({"start_date": "2024-03-02", "end_date": "2024-10-14"}, range(2, 9)),
    ],
    ids=str,
)
def test_rare_pair_of_filters_is_found_far_back(
    write, administrator, client_of, sealed, span, months
):
    pair = {"action": "deleted", "resource_type": "user"}
    rare = [
        write(**pair, timestamp=datetime(2024, 1 + month, 15, tzinfo=timezone.utc))
        for month in range(12)
    ]
    for month in range(12):
        write(action="deleted", timestamp=datetime(2024, 1 + month, 14, tzinfo=timezone.utc))
    if sealed:
        list(seal_pending())
    expected = [rare[month].pk for month in reversed(months)]
    for page in (1, 2):
        answer = client_of(administrator).get(URL, {**pair, **span, "page_size": 4, "page": page})
        assert answer.json()["count"] == len(expected)
        ids = [row["id"] for row in answer.json()["results"]]
        assert ids == expected[4 * page - 4 : 4 * page]


@pytest.mark.parametrize(
    ("action", "resource_type"),
    [("viewed\x1ft:scan", "other"), ("viewed", "scan\x1ft:scan"), ("x\x1f", "scan")],
)
def test_names_that_clients_choose_count_for_no_other_filter(
    write, user, administrator, client_of, action, resource_type
):
    for day in (1, 2, 3):
        write(action="viewed", resource_type="scan", timestamp=at(day))
    body = {"action": action, "resource_type": resource_type, "resource_id": "1"}
    for _ in range(5):
        assert client_of(user).post(URL, body, format="json").status_code == 201
    list(seal_pending())
    assert list(LogVerifier().problems()) == []
    admin = client_of(administrator)
    answer = admin.get(f"{URL}?action=viewed&resource_type=scan&page_size=2").json()
    assert (answer["count"], len(answer["results"])) == (3, 2)
    own = {"action": action, "resource_type": resource_type}
    assert admin.get(URL, own).json()["count"] == 5


def test_deep_pages_of_the_admin_equal_the_api(log, monkeypatch):
    monkeypatch.setattr("myometrics_audit.listing.pages.MAX_SHALLOW_OFFSET", 0)
    pages = EntryPaginator(entries_select(Selection()), 7)
    assert pages.count == 60
    ids = [entry.pk for number in pages.page_range for entry in pages.page(number)]
    assert ids == [entry.pk for entry in reversed(log)]


@pytest.mark.django_db(transaction=True)
def test_count_and_first_page_are_from_one_snapshot(
    write, administrator, client_of, run_concurrently
):
    for _ in range(5):
        write()

    def write_and_seal():
        for _ in range(5):
            write()
            list(seal_pending())

    def read():
        client = client_of(administrator)
        bodies = [client.get(URL, {"page_size": 100}).json() for _ in range(10)]
        return [(body["count"], len(body["results"])) for body in bodies]

    written, *read_pairs = run_concurrently([write_and_seal, read, read])
    assert written is None
    for pairs in read_pairs:
        assert all(count == rows for count, rows in pairs), pairs
        assert sorted(pairs) == pairs
