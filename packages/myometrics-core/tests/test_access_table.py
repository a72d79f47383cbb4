"""The table of accesses holds what the log holds, and nobody who was erased."""

import asyncio
import csv
import json
from datetime import timedelta
from io import StringIO

import pytest
from django.contrib.admin import site
from django.contrib.auth import get_user_model
from django.core.management import CommandError, call_command
from django.db import connection, connections, transaction
from django.test import AsyncClient, Client

from myometrics_core.access_table.admin import AccessAdmin
from myometrics_core.access_table.checks import check_middleware
from myometrics_core.access_table.models import Access
from myometrics_core.access_table.services import accesses_insert
from myometrics_core.access_table.tasks import purge_accesses
from myometrics_core.accesses import flush_accesses
from myometrics_core.export_files import export_chunks
from myometrics_core.personal_data import erase_person
from myometrics_core.times import utc_now, utc_text

pytestmark = pytest.mark.usefixtures("patient_dependencies")

ADDRESS = "203.0.113.5"


@pytest.fixture
def at_clinic(access_table, person):
    """A browser in which ``person`` is signed in."""
    client = Client(REMOTE_ADDR=ADDRESS)
    client.force_login(person)
    return client


def visit(client, times=1):
    """Requests in the session of ``client``, which is looked at as most views do."""
    for _ in range(times):
        assert client.get("/api/health/?token=secret").status_code == 200


def an_access(**values):
    return {
        "user_id": None,
        "address": ADDRESS,
        "method": "GET",
        "endpoint": "/api/health/",
        "status": 200,
        "milliseconds": 12.4,
        "request_id": "request-4711",
        "time": "2026-11-22T09:00:00.123456Z",
        **values,
    }


# --- what is in it ---------------------------------------------------------------------------


def test_a_row_tells_what_the_line_tells(at_clinic, person):
    before = utc_now()
    visit(at_clinic)
    after = utc_now()
    flush_accesses()
    row = Access.objects.get()
    assert (row.user_id, row.ip_address) == (str(person.pk), ADDRESS)
    assert (row.method, row.endpoint, row.status) == ("GET", "/api/health/", 200)
    assert before <= row.timestamp <= after
    assert len(row.request_id) == 32
    assert "secret" not in str(vars(row))


@pytest.mark.django_db(transaction=True)
def test_under_asgi_it_is_the_same(access_table):
    asyncio.run(AsyncClient().get("/api/health/"))
    flush_accesses()
    assert Access.objects.get().endpoint == "/api/health/"


def test_of_strangers_only_a_keyed_hash_of_the_address_is_kept(access_table, db):
    Client(REMOTE_ADDR=ADDRESS).get("/api/nothing")
    flush_accesses()
    row = Access.objects.get()
    assert (row.user_id, row.ip_address) == ("", None)
    assert len(row.address_key) == 32


def test_search_by_address_finds_accesses_of_before_a_key_rotation(access_table, db, settings):
    for key in ("another" * 10, "a third" * 10):
        Client(REMOTE_ADDR=ADDRESS).get("/api/nothing")
        flush_accesses()
        settings.SECRET_KEY_FALLBACKS = [settings.SECRET_KEY, *settings.SECRET_KEY_FALLBACKS]
        settings.SECRET_KEY = key
    accesses = AccessAdmin(Access, site)
    found, _may_repeat = accesses.get_search_results(None, Access.objects.all(), f" {ADDRESS} ")
    assert found.count() == 2
    assert len(set(found.values_list("address_key", flat=True))) == 2


def test_a_site_may_choose_to_keep_strangers_addresses(access_table, db):
    access_table(WRITES="on_flush", UNKNOWN_ADDRESSES="plain")
    Client(REMOTE_ADDR=ADDRESS).get("/api/nothing")
    flush_accesses()
    assert Access.objects.get().ip_address == ADDRESS


def test_whatever_a_request_brings_fits_into_the_row(access_table, db):
    odd = an_access(
        user_id="a service account",
        method="PROPFIND\x00" * 9,
        endpoint="/\udcff" * 400,
        status=99999,
        milliseconds=1e12,
        address=None,
    )
    accesses_insert(accesses=[odd])
    row = Access.objects.get()
    assert (row.user_id, row.ip_address, row.address_key) == ("", None, "")
    assert (len(row.method), len(row.endpoint)) == (16, 255)


def test_a_table_that_is_off_holds_nothing(access_table, db):
    access_table(WRITES="off")
    Client().get("/api/nothing")
    flush_accesses()
    assert not Access.objects.exists()


# --- persons ---------------------------------------------------------------------------------

DELETIONS = {
    "by the registry": erase_person,
    "by themselves": lambda user: user.delete(),
    "among others": lambda user: type(user).objects.filter(pk=user.pk).delete(),
}


@pytest.mark.parametrize("way", DELETIONS)
def test_an_erased_person_is_in_no_access_old_or_waiting(at_clinic, person, administrator, way):
    boss = Client(REMOTE_ADDR="203.0.113.6")
    boss.force_login(administrator)
    visit(boss)
    visit(at_clinic, times=2)
    flush_accesses()
    visit(at_clinic, times=3)
    DELETIONS[way](person)
    flush_accesses()
    found = list(Access.objects.exclude(user_id=str(administrator.pk)))
    assert len(found) == 5
    for row in found:
        assert (row.user_id, row.ip_address, row.address_key) == ("", None, "")
        assert row.request_id == ""
    assert Access.objects.get(user_id=str(administrator.pk)).ip_address == "203.0.113.6"


@pytest.mark.django_db(transaction=True)
def test_nor_in_one_that_is_written_at_that_very_moment(access_table, run_concurrently):
    for number in range(8):
        user = get_user_model().objects.create_user(email=f"{number}@clinic.example", password="x")
        batch = [an_access(user_id=str(user.pk), request_id=str(number)) for _ in range(40)]
        outcomes = run_concurrently(
            [lambda user=user: erase_person(user)]
            + [lambda batch=batch: accesses_insert(accesses=batch)] * 4
        )
        assert not [outcome for outcome in outcomes if isinstance(outcome, Exception)]
    assert Access.objects.count() == 8 * 4 * 40
    assert not Access.objects.exclude(user_id="", ip_address=None, address_key="").exists()


@pytest.mark.django_db(transaction=True)
def test_somebody_who_stays_is_named_though_their_row_is_being_edited(access_table, person):
    # A sign-in updates the row: to write accesses must not wait for it, or they would for ever.
    # SQLite has one writer.
    accesses_insert(accesses=[an_access(user_id=str(person.pk))])
    if connection.vendor == "postgresql":
        other = connections.create_connection("default")
        with other.cursor() as cursor:
            cursor.execute("BEGIN")
            cursor.execute("UPDATE clinic_site_person SET last_login = now()")
            with transaction.atomic(), connection.cursor() as ours:
                ours.execute("SET LOCAL lock_timeout = '30s'")
                accesses_insert(accesses=[an_access(user_id=str(person.pk))])
            cursor.execute("ROLLBACK")
        other.close()
    assert set(Access.objects.values_list("user_id", flat=True)) == {str(person.pk)}


def test_an_export_holds_the_persons_accesses_and_nobody_elses(at_clinic, person, administrator):
    visit(at_clinic, times=3)
    accesses_insert(accesses=[an_access(user_id=str(administrator.pk)), an_access()])
    flush_accesses()
    exported = json.loads(b"".join(export_chunks(person, "json")))["accesses"]
    assert len(exported) == 3
    assert set(exported[0]) == {
        *("timestamp", "method", "endpoint", "status"),
        *("milliseconds", "ip_address", "request_id"),
    }
    assert exported[0]["ip_address"] == ADDRESS
    assert exported[0]["timestamp"].endswith("Z")
    table = csv.reader(StringIO(b"".join(export_chunks(person, "csv")).decode(), newline=""))
    assert ["accesses", "3", "endpoint", "/api/health/"] in list(table)


# --- retention, admin, checks ------------------------------------------------------------------


@pytest.fixture
def aged(access_table, db):
    """Twenty accesses of today and thirty of 100 days ago."""
    old = utc_text(utc_now() - timedelta(days=100))
    accesses_insert(
        accesses=[an_access(time=old)] * 30 + [an_access(time=utc_text(utc_now()))] * 20
    )


def purge(*arguments):
    out = StringIO()
    call_command("access_purge", *arguments, stdout=out)
    return out.getvalue()


def test_a_purge_first_says_what_it_would_remove(aged):
    assert "Would remove 30 accesses" in purge("--older-than", "90d")
    assert Access.objects.count() == 50


def test_a_purge_removes_what_is_old_in_chunks_and_nothing_else(
    aged, django_assert_max_num_queries
):
    with django_assert_max_num_queries(1 + 3 + 1):
        result = json.loads(purge("--older-than", "90d", "--execute", "--chunk", "10", "--json"))
    assert (result["due"], result["purged"]) == (30, 30)
    assert Access.objects.count() == 20


@pytest.mark.parametrize(
    "arguments", [["2999-01-01"], ["soon"], ["90d", "--chunk", "0"], ["90d", "--chunk", "100001"]]
)
def test_a_purge_refuses_what_makes_no_sense(db, arguments):
    with pytest.raises(CommandError):
        purge("--older-than", *arguments)


def test_the_periodic_task_keeps_as_many_days_as_the_site_says(aged, access_table):
    access_table(WRITES="on_flush", KEEP_DAYS=101)
    assert purge_accesses() == 0
    access_table(WRITES="on_flush", KEEP_DAYS=99)
    assert purge_accesses() == 30


@pytest.fixture
def staff(access_table, db):
    client = Client()
    client.force_login(
        get_user_model().objects.create_superuser(email="root@clinic.example", password="x")
    )
    return client


URL = "/admin/myometrics_access_table/access/"


def listed(staff, term=""):
    return staff.get(URL, {"q": term} if term else {}).context["cl"].result_count


def test_the_admin_finds_an_address_and_a_person_and_changes_nothing(staff, person):
    accesses_insert(
        accesses=[
            an_access(user_id=str(person.pk), address="2001:db8::7"),
            an_access(address="2001:db8::7"),
            an_access(),
        ]
    )
    assert listed(staff) == 3
    assert listed(staff, "2001:0db8:0::7") == 2
    assert listed(staff, str(person.pk)) == 1
    assert listed(staff, "somebody") == 0
    key = Access.objects.latest("id").pk
    assert staff.get(f"{URL}add/").status_code == 403
    assert staff.post(f"{URL}{key}/change/", {"status": 500}).status_code == 403
    assert staff.post(f"{URL}{key}/delete/", {"post": "yes"}).status_code == 403


def test_a_table_without_the_middleware_that_fills_it_is_warned_of(settings):
    assert check_middleware() == []
    settings.MIDDLEWARE = [path for path in settings.MIDDLEWARE if "AccessLog" not in path]
    assert [warning.id for warning in check_middleware()] == ["myometrics_core.W011"]
