"""The admin page of jobs: what is pending, what is dead, and two actions."""

import pytest
from django.contrib.auth import get_user_model
from django.contrib.auth.models import Permission
from django.test import Client
from django.urls import reverse

from myometrics_core.jobs import Job, enqueue
from myometrics_core.jobs.claims import claim_job

LIST = reverse("admin:myometrics_core_job_changelist")


@pytest.fixture
def staff(db):
    user = get_user_model().objects.create_superuser(email="root@clinic.example", password="x")
    client = Client()
    client.force_login(user)
    return client


def act(client, action, *jobs):
    data = {"action": action, "_selected_action": [job.pk for job in jobs]}
    return client.post(LIST, data, follow=True)


def test_list_and_page_of_a_job_hide_its_payload(staff, kind):
    enqueue(kind.name, {"email": "ada@clinic.example"}, key="7")
    page = reverse("admin:myometrics_core_job_change", args=[Job.objects.get().pk])
    for url in (LIST, page):
        response = staff.get(url)
        assert response.status_code == 200
        assert "tests.note" in response.content.decode()
        assert "ada@clinic.example" not in response.content.decode()


def test_retry_of_a_dead_job_enqueues_it_with_all_attempts(staff, kind):
    dead = Job.objects.create(
        kind=kind.name, key="7", payload={"id": 7}, state="dead", attempts=10, last_error="x"
    )
    assert "1 job runs again." in act(staff, "retry", dead).content.decode()
    job = Job.objects.get()
    assert (job.state, job.attempts, job.payload) == ("pending", 0, {"id": 7})
    assert kind.retried == ["7"]


def test_retry_of_a_dead_job_keeps_a_pending_one_with_its_key(staff, kind):
    dead = Job.objects.create(kind=kind.name, key="7", state="dead")
    enqueue(kind.name, key="7")
    act(staff, "retry", dead)
    assert [job.state for job in Job.objects.all()] == ["pending"]


def test_retry_of_a_removed_kind_is_refused_with_a_message(staff, kind):
    dead = Job.objects.create(kind="tests.removed", key="7", state="dead")
    response = act(staff, "retry", dead)
    assert "tests.removed" in response.content.decode()
    assert Job.objects.get().state == "dead"


def test_retry_leaves_a_running_job_to_its_worker(staff, kind):
    enqueue(kind.name, key="7")
    job = claim_job(Job.objects.get().pk, kind)
    act(staff, "retry", job)
    assert job.finish()


def test_cancelled_job_is_deleted(staff, kind):
    enqueue(kind.name, key="7")
    assert "1 job cancelled." in act(staff, "cancel", Job.objects.get()).content.decode()
    assert not Job.objects.exists()


def test_actions_need_the_permission_to_change_jobs(staff, kind):
    enqueue(kind.name, key="7")
    viewer = get_user_model().objects.create_user(
        email="eva@clinic.example", password="x", is_staff=True
    )
    viewer.user_permissions.add(Permission.objects.get(codename="view_job"))
    client = Client()
    client.force_login(viewer)
    assert client.get(LIST).status_code == 200
    act(client, "cancel", Job.objects.get())
    assert Job.objects.exists()
