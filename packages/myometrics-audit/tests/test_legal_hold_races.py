"""Legal holds beside the deletion of their users; PostgreSQL only."""

from __future__ import annotations

import threading
from contextlib import suppress

import pytest
from django.core.exceptions import ValidationError
from django.db import connection, transaction
from test_legal_hold import MOMENT, URL, officer, problems, staff

from myometrics_audit.legal_hold.models import LegalHold
from myometrics_audit.legal_hold.services import hold_place, hold_release
from myometrics_audit.sealing.erasures import entries_erase_or_retain
from myometrics_core.personal_data import erase_user
from myometrics_testing.waiting import wait_for

__all__ = ["officer", "staff"]


def erase_entries(user):
    """The deletion of a user begins with this, unless another app locks the user before."""
    entries_erase_or_retain(user=user, using="default")


def is_waiting():
    """Whether another transaction waits for this one; unlike pg_stat_activity, not cached."""
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT EXISTS (SELECT 1 FROM pg_locks"
            " WHERE NOT granted AND pg_backend_pid() = ANY(pg_blocking_pids(pid)))"
        )
        return cursor.fetchone()[0]


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("remove", [erase_user, erase_entries])
@pytest.mark.parametrize("act", [hold_place, hold_release])
def test_hold_does_not_deadlock_with_a_deletion_that_waits(
    write, django_user_model, officer, run_concurrently, remove, act
):
    write(user=officer, timestamp=MOMENT)
    hold = hold_place(actor=officer, reason="court", data_subject="p1")
    may_delete, is_deleted = threading.Event(), threading.Event()

    def wait_for_deletion(execute, sql, *arguments):
        if "pg_advisory_xact_lock" in sql:
            may_delete.set()
            wait_for(lambda: is_deleted.is_set() or is_waiting())
        return execute(sql, *arguments)

    def place_or_release():
        with connection.execute_wrapper(wait_for_deletion), suppress(ValidationError):
            if act is hold_place:
                hold_place(actor=officer, reason="court", data_subject="p2")
            else:
                hold_release(hold, actor=officer)

    def delete():
        may_delete.wait()
        remove(django_user_model.objects.get(pk=officer.pk))
        is_deleted.set()

    results = run_concurrently([place_or_release, delete])
    assert not [result for result in results if isinstance(result, Exception)]
    assert not problems()


@pytest.mark.django_db(transaction=True)
def test_admin_says_that_the_user_is_being_deleted(staff, user, run_concurrently):
    client = staff("view_legalhold", "add_legalhold")
    is_locked, is_answered = threading.Event(), threading.Event()
    answers = []

    def delete():
        with transaction.atomic():
            type(user).objects.select_for_update().get(pk=user.pk)
            is_locked.set()
            is_answered.wait()

    def add():
        is_locked.wait()
        body = {"user": str(user.pk), "data_subject": "", "reason": "court"}
        try:
            answers.append(client.post(f"{URL}add/", body, follow=True))
        finally:
            is_answered.set()

    run_concurrently([delete, add])
    assert "is being changed or deleted. Try again." in answers[0].content.decode()
    assert not LegalHold.objects.exists()
