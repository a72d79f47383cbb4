"""Celery tasks of the package, and the package without Celery."""

from pathlib import Path

import pytest

from myometrics_core.events import publish
from myometrics_notifications.exports import export_request
from myometrics_notifications.models import ExportFile, Message
from myometrics_testing.site_processes import SiteProcesses

pytestmark = pytest.mark.django_db

SCRIPT = Path(__file__).with_name("fault_process.py")


@pytest.fixture
def tasks():
    from myometrics_notifications import tasks

    return tasks


@pytest.mark.celery
def test_tasks_have_the_names_of_version_0_1(tasks):
    from celery import current_app

    names = {name for name in current_app.tasks if name.startswith("myometrics_notifications.")}

    assert names == {
        "myometrics_notifications.deliver",
        "myometrics_notifications.sweep",
        "myometrics_notifications.purge",
        "myometrics_notifications.export",
        "myometrics_notifications.sweep_exports",
    }


@pytest.mark.celery
def test_task_delivers_the_message_of_an_id(tasks, queued, mailoutbox):
    assert tasks.deliver(queued.pk) == 1
    assert tasks.deliver(queued.pk) == 0
    assert len(mailoutbox) == 1


@pytest.mark.celery
def test_task_without_an_id_delivers_all_due_messages(tasks, user, make_event, mailoutbox):
    for task in (tasks.deliver, tasks.sweep):
        for _ in range(2):
            publish(make_event(actor_id=user.pk))
        assert task() == 2
    assert len(mailoutbox) == 4


@pytest.mark.celery
def test_task_writes_the_export_of_an_id(tasks, user, media):
    export_request(user=user, export_format="csv")

    assert tasks.export(ExportFile.objects.get().pk) == 1

    assert ExportFile.objects.get().state == "ready"
    assert Message.objects.get().kind == "export_ready"


def test_package_works_without_celery(tmp_path):
    settings = "notifications_test_settings"
    with SiteProcesses(SCRIPT, tmp_path, DJANGO_SETTINGS_MODULE=settings) as site:
        site.run("check")
        site.run("jobs_run", "--once")
