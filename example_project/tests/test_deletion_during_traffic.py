"""Users are deleted under traffic: no server errors, no lost data."""

import random
from collections import Counter

import pytest
from conftest import client_of, make_user
from django.contrib.auth import get_user_model
from django.core.management import call_command

from myometrics_analytics.models import PendingChange, Upload
from myometrics_analytics.rollups import changes_fold, rollups_check
from myometrics_audit.models import AuditLog
from myometrics_audit.sealing import seal_pending
from myometrics_core.jobs import run_jobs

pytestmark = [
    pytest.mark.django_db(transaction=True),
    pytest.mark.usefixtures("unlimited", "cheap_hashes"),
]
ROUNDS = 20


def test_deletions_during_traffic_fail_no_other_request(run_concurrently):
    leaving = [make_user(f"leaving-{number}@clinic.example") for number in range(8)]
    staying = [make_user(f"staying-{number}@clinic.example") for number in range(3)]
    staying.append(make_user("using@clinic.example", role="admin"))
    deleting = [make_user(f"admin-{number}@clinic.example", role="admin") for number in range(2)]
    users = [*leaving, *staying]
    clients = [client_of(user) for user in users]
    for user in users:
        for _ in range(3):
            client_of(user)

    def use(seed):
        chance = random.Random(seed)
        statuses = Counter()
        for number in range(ROUNDS):
            client = chance.choice(clients)
            entry = {
                "action": chance.choice(["upload_created", "upload_completed", "upload_failed"]),
                "resource_type": "upload",
                "resource_id": f"u{chance.randrange(8)}",
                "details": {"diagnosis": f"D{number % 3}", "processing_time": number},
            }
            answers = [
                client.post("/api/audit-logs/", entry, format="json"),
                client.put("/api/auth/user/", {"firstName": f"N{number}"}, format="json"),
                client.patch(
                    "/api/users/me/notifications/", {"system_alerts": True}, format="json"
                ),
                client.delete("/api/auth/sessions/"),
                client.get("/api/users/me/export/?delivery=email"),
            ]
            statuses.update(answer.status_code for answer in answers)
        return statuses

    def delete(administrator, users):
        client = client_of(administrator)
        return Counter(client.delete(f"/api/users/{user.pk}/").status_code for user in users)

    def delete_together(users):
        # As "delete selected" does on the admin site.
        get_user_model().objects.filter(pk__in=[user.pk for user in users]).delete()

    def run_background_jobs():
        for _ in range(ROUNDS):
            changes_fold()
            list(seal_pending())
            run_jobs("myometrics_notifications.export")
        return rollups_check()

    outcomes = run_concurrently(
        [
            *(lambda seed=seed: use(seed) for seed in range(3)),
            lambda: delete(deleting[0], leaving[:4]),
            lambda: delete(deleting[1], leaving[2:6]),
            lambda: delete_together(leaving[6:]),
            run_background_jobs,
            run_background_jobs,
        ]
    )

    assert [outcome for outcome in outcomes if isinstance(outcome, Exception)] == []
    used, deleted, repaired = outcomes[:3], outcomes[3:5], outcomes[6:]
    assert set(sum(used, Counter())) <= {200, 201, 202, 204, 401}
    assert sum(deleted, Counter()) == {204: 6, 404: 2}
    assert repaired == [0, 0]
    gone = [user.pk for user in leaving]
    assert not get_user_model().objects.filter(pk__in=gone).exists()
    assert not Upload.objects.filter(user_id__in=gone).exists()
    assert not PendingChange.objects.filter(user_id__in=gone).exists()
    assert not AuditLog.objects.filter(user_id__in=gone).exists()
    changes_fold()
    assert rollups_check() == 0
    call_command("audit_seal")
    call_command("audit_verify")
