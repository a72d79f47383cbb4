"""The Celery application of a package's tests: messages stay in this process's memory."""

from celery import Celery

app = Celery("myometrics_testing")
app.config_from_object("django.conf:settings", namespace="CELERY")
app.set_default()
app.autodiscover_tasks()
