"""Recording changes in several databases."""

from __future__ import annotations

import pytest
from django.contrib.sessions.models import Session
from django.db import connections

from myometrics_audit.models import AuditLog
from myometrics_audit.tracking import recorded, recorded_delete, recorded_save, recorded_update
from myometrics_core.times import utc_now

pytestmark = pytest.mark.django_db


@pytest.fixture
def archive(db, tmp_path):
    """The alias of another database, with a recorded table of sessions."""
    options = {"ENGINE": "django.db.backends.sqlite3", "NAME": str(tmp_path / "archive")}
    connections.settings["archive"] = {**connections.settings["default"], "OPTIONS": {}, **options}
    connections["archive"].connect()  # by itself it would be no database of this test
    with connections["archive"].schema_editor() as editor:
        editor.create_model(recorded()(Session))
    yield "archive"
    connections["archive"].close()
    del connections["archive"], connections.settings["archive"]


def test_recorded_save_reads_the_database_that_it_writes_to(archive):
    session = Session(pk="s1", session_data="a", expire_date=utc_now())
    recorded_save(session, actor=None, using=archive)
    creation = AuditLog.objects.get(action="session_created")
    assert creation.details["values"]["session_data"] == "a"
    moved = Session(pk="s1", session_data="b", expire_date=session.expire_date)
    recorded_save(moved, actor=None, using=archive)
    changed = {"changes": {"session_data": {"from": "a", "to": "b"}}}
    assert AuditLog.objects.get(action="session_updated").details == changed
    assert Session.objects.using(archive).get().session_data == "b"
    assert not Session.objects.exists()


def test_rows_are_recorded_in_the_database_of_the_query_set(archive):
    archived = Session.objects.using(archive)
    archived.create(pk="s1", session_data="a", expire_date=utc_now())
    assert recorded_update(archived.all(), actor=None, session_data="b") == 1
    session = archived.get()
    session.session_data = "c"
    recorded_save(session, actor=None)
    recorded_delete(session, actor=None)
    assert not archived.exists()
    update, save, deletion = AuditLog.objects.order_by("id")
    assert update.details == {"changes": {"session_data": {"from": "a", "to": "b"}}}
    assert save.details == {"changes": {"session_data": {"from": "b", "to": "c"}}}
    assert deletion.details["values"]["session_data"] == "c"
