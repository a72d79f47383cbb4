"""A site's process in which Celery can't be imported: ``python mail_process.py COMMAND …``.

``request ADDRESS`` creates an account and requests a reset; other commands are those of
``manage.py``. Mails wait until the file ``go`` exists; each leaves a line at its begin and its end.
"""

import os
import sys
import time
from pathlib import Path

from django.core.mail.backends.base import BaseEmailBackend

FOLDER = Path(os.environ["MAIL_FOLDER"])


class WaitingBackend(BaseEmailBackend):
    def send_messages(self, messages):
        (message,) = messages
        note(f"begin {message.message()['Message-ID']}")
        while not (FOLDER / "go").exists():
            time.sleep(0.02)
        note(f"sent to {message.to[0]}")
        return 1


def note(line):
    with (FOLDER / "notes").open("a") as notes:
        notes.write(line + "\n")


def main():
    sys.modules["celery"] = None
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
