"""A site with external database, broker and mail server, for the fault tests."""

import os
from datetime import timedelta

from myometrics_core.beat import beat_schedule
from myometrics_testing.settings import package_settings

globals().update(
    package_settings(
        apps=["myometrics_notifications"],
        urls="notifications_test_urls",
        EMAIL_BACKEND="django.core.mail.backends.smtp.EmailBackend",
        EMAIL_HOST="127.0.0.1",
        EMAIL_PORT=int(os.environ.get("SMTP_PORT", "25")),
        DEFAULT_FROM_EMAIL="noreply@clinic.example",
        STORAGES={
            "default": {
                "BACKEND": "fault_storage.DisturbedStorage",
                "OPTIONS": {"location": os.environ.get("MEDIA_ROOT", "/nowhere")},
            },
            "staticfiles": {
                "BACKEND": "django.contrib.staticfiles.storage.StaticFilesStorage",
            },
        },
        MYOMETRICS={
            "JOB_RUNNER": os.environ.get("JOB_RUNNER", "none"),
            # Long enough for a busy machine: a server whose answer came too late would get the
            # mail twice.
            "SMTP_TIMEOUT": 10,
        },
        MYOMETRICS_NOTIFICATIONS={
            # The test itself ends the claims of killed workers.
            "LEASE": timedelta(hours=1),
            "EXPORT_LEASE": timedelta(hours=1),
            "RETRY_BASE": timedelta(seconds=1),
            "RETRY_CAP": timedelta(seconds=3),
            "SERVER_PAUSE": timedelta(seconds=1),
            "MAX_ATTEMPTS": 200,
            "MAILS_PER_USER_PER_HOUR": 10_000,
        },
        CELERY_BROKER_URL=os.environ.get("REDIS_URL", "memory://"),
        CELERY_TASK_IGNORE_RESULT=True,
        CELERY_WORKER_PREFETCH_MULTIPLIER=1,
        CELERY_BROKER_CONNECTION_RETRY_ON_STARTUP=True,
        CELERY_BROKER_CONNECTION_MAX_RETRIES=None,
        CELERY_BROKER_TRANSPORT_OPTIONS={
            "visibility_timeout": 20,
            "socket_timeout": 3,
            "socket_connect_timeout": 1,
        },
        CELERY_BEAT_SCHEDULE=beat_schedule,
    )
)
