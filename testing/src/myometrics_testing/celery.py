"""The Celery application of a package's tests, with an in-memory broker."""

from celery import Celery
from celery.signals import setup_logging

app = Celery("myometrics_testing")
app.config_from_object("django.conf:settings", namespace="CELERY")
app.set_default()
app.autodiscover_tasks()


@setup_logging.connect
def leave_logging_alone(**kwargs: object) -> None:
    """A worker in a test's thread would change the root logger's level for all later tests."""
