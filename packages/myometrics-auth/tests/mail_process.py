"""A site's process in which Celery can't be imported: ``python mail_process.py COMMAND …``.

``request ADDRESS`` creates an account and requests a reset; other commands are those of
``manage.py``. Each mail waits in the middle, and leaves a line at its begin and its end.
"""

import os
import sys

from django.core.mail.backends.base import BaseEmailBackend

from myometrics_testing.site_processes import hide_celery, note, wait_for_go


class WaitingBackend(BaseEmailBackend):
    def send_messages(self, messages):
        (message,) = messages
        note(f"begin {message.message()['Message-ID']}")
        wait_for_go()
        note(f"sent to {message.to[0]}")
        return 1


def main():
    hide_celery()
    os.environ["DJANGO_SETTINGS_MODULE"] = "auth_test_settings"
    import django
    from django.conf import settings

    settings.EMAIL_BACKEND = "mail_process.WaitingBackend"
    settings.MYOMETRICS = {**settings.MYOMETRICS, "JOB_RUNNER": "none"}
    django.setup()
    from django.core.management import execute_from_command_line

    if sys.argv[1] == "request":
        request_reset(sys.argv[2])
    else:
        execute_from_command_line(sys.argv)


def request_reset(email):
    from django.contrib.auth import get_user_model
    from rest_framework.test import APIClient

    get_user_model().objects.create_user(email, "quiet-otter-paddles-42")
    response = APIClient().post("/api/auth/password-reset/", {"email": email}, format="json")
    assert response.status_code == 200


if __name__ == "__main__":
    main()
