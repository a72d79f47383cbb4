"""Mail: composing from templates, the connection, failures."""

import smtplib
import socket

import pytest
from django.contrib.auth import get_user_model
from django.core import mail
from django.core.mail import EmailMessage
from django.core.mail.backends.base import BaseEmailBackend
from django.utils import timezone, translation

from myometrics_core.mail import (
    MailConnection,
    MailNotSent,
    classify_failure,
    compose_mail,
    mail_address,
    mail_timeout,
)
from myometrics_testing.smtp_server import OK
from myometrics_testing.waiting import PATIENCE

BODY = (
    '{% extends "myometrics_core/mail/layout.txt" %}{% block content %}Hi & {{ x }}{% endblock %}'
)
HTML = '{% extends "myometrics_core/mail/layout.html" %}{% block content %}{{ x }}{% endblock %}'


@pytest.fixture
def user():
    return get_user_model()(email="ada@clinic.example", full_name="Ada")


@pytest.fixture
def compose(user, settings):
    texts = {"subject.txt": "About\n  {{ x }}\n", "body.txt": BODY, "body.html": HTML}
    loader = ("django.template.loaders.locmem.Loader", texts)
    apps = "django.template.loaders.app_directories.Loader"
    settings.TEMPLATES = [
        {
            "BACKEND": "django.template.backends.django.DjangoTemplates",
            "OPTIONS": {"loaders": [loader, apps]},
        }
    ]

    def compose_for_user(**fields):
        values = {
            "mail_id": "1",
            "subject": "subject.txt",
            "body": "body.txt",
            "context": {"x": "you & me", "site_name": "Clinic"},
            "language": "en",
            **fields,
        }
        return compose_mail(user, **values)

    return compose_for_user


def plain_mail():
    return EmailMessage("Subject", "Body", "noreply@clinic.example", ["ada@clinic.example"])


@pytest.fixture
def patient_server(mail_server, settings):
    settings.MYOMETRICS = {"SMTP_TIMEOUT": PATIENCE}
    return mail_server


def test_composed_mail_has_address_subject_and_text(compose, settings):
    settings.MYOMETRICS = {"FRONTEND_URL": "https://clinic.example"}

    sent = compose()

    assert sent.to == ["ada@clinic.example"]
    assert sent.subject == "About you &amp; me"
    assert sent.body == "Hi & you & me\n\n-- \nClinic\nhttps://clinic.example\n"
    assert sent.alternatives == []


def test_composed_mail_has_html_alternative(compose):
    ((html, content_type),) = compose(html=["missing.html", "body.html"]).alternatives

    assert content_type == "text/html"
    assert "you &amp; me" in html
    assert '<html lang="en">' in html


def test_composed_mail_keeps_message_id_at_each_attempt(compose):
    fields = {"mail_id": "a-b", "sender": "Clinic <noreply@clinic.example>"}

    ids = {compose(**fields).message()["Message-ID"] for _ in range(2)}

    assert ids == {"<a-b@clinic.example>"}


@pytest.mark.parametrize(
    ("domain", "shown"), [("müller.example", "xn--mller-kva.example"), ("ü..example", "localhost")]
)
def test_message_id_is_ascii_if_the_domain_of_the_sender_is_not(compose, domain, shown):
    mail = compose(mail_id="a-b", sender=f"info@{domain}")
    assert mail.extra_headers["Message-ID"] == f"<a-b@{shown}>"


def test_composed_mail_says_that_a_program_sent_it(compose):
    sent = compose(headers={"X-Kind": "test"})

    assert sent.extra_headers["Auto-Submitted"] == "auto-generated"
    assert sent.extra_headers["X-Kind"] == "test"


def test_composed_mail_uses_language_and_time_zone_of_recipient(compose):
    seen = []

    def context():
        seen.append((translation.get_language(), timezone.get_current_timezone_name()))
        return {}

    compose(language="de", time_zone="Pacific/Auckland", context=context)
    compose(context=context)

    assert seen == [("de", "Pacific/Auckland"), ("en", "Europe/Berlin")]


def test_mail_address_is_empty_without_an_email_field(user, monkeypatch):
    assert mail_address(user) == "ada@clinic.example"
    monkeypatch.setattr(type(user), "EMAIL_FIELD", "missing", raising=False)
    assert mail_address(user) == ""


def test_connection_is_shared_by_mails(patient_server):
    with MailConnection() as connection:
        for _ in range(3):
            connection.send(plain_mail())

    assert len(patient_server.accepted) == 3
    assert patient_server.connections == 1


def test_connection_opens_again_after_a_failure(patient_server):
    patient_server.at_data = "drop"
    with MailConnection() as connection:
        with pytest.raises((smtplib.SMTPException, OSError)):
            connection.send(plain_mail())
        patient_server.at_data = OK
        connection.send(plain_mail())

    assert patient_server.connections == 2


def test_connection_times_out_when_server_is_silent(settings):
    with socket.create_server(("127.0.0.1", 0)) as silent:
        settings.EMAIL_BACKEND = "django.core.mail.backends.smtp.EmailBackend"
        settings.EMAIL_HOST, settings.EMAIL_PORT = silent.getsockname()
        settings.MYOMETRICS = {"SMTP_TIMEOUT": 0.2}
        with MailConnection() as connection, pytest.raises((smtplib.SMTPException, OSError)):
            connection.send(plain_mail())


def test_mail_timeout_prefers_djangos_setting(settings):
    settings.EMAIL_BACKEND = "django.core.mail.backends.smtp.EmailBackend"
    settings.MYOMETRICS = {"SMTP_TIMEOUT": 7}
    assert mail_timeout() == 7
    settings.EMAIL_TIMEOUT = 3
    assert mail_timeout() == 3


class SilentBackend(BaseEmailBackend):
    """Sends nothing, and says so only by its count."""

    def send_messages(self, email_messages):
        return 0


def test_mail_that_the_backend_did_not_send_raises(settings):
    settings.EMAIL_BACKEND = f"{__name__}.SilentBackend"

    with MailConnection() as connection, pytest.raises(MailNotSent):
        connection.send(plain_mail())
    assert mail.outbox == []


def refused(*codes):
    answers = {f"{number}@clinic.example": (code, b"no") for number, code in enumerate(codes)}
    return smtplib.SMTPRecipientsRefused(answers)


@pytest.mark.parametrize(
    ("error", "permanent", "service_down", "summary"),
    [
        (refused(550), True, False, "SMTPRecipientsRefused 550"),
        (refused(550, 451), False, False, "SMTPRecipientsRefused 550"),
        (refused(), False, False, "SMTPRecipientsRefused"),
        (smtplib.SMTPDataError(554, b"no"), True, False, "SMTPDataError 554"),
        (smtplib.SMTPDataError(452, b"full"), False, False, "SMTPDataError 452"),
        (smtplib.SMTPAuthenticationError(535, b"no"), False, True, "SMTPAuthenticationError 535"),
        (smtplib.SMTPSenderRefused(550, b"no", "a@b"), False, True, "SMTPSenderRefused 550"),
        (ConnectionRefusedError(), False, True, "ConnectionRefusedError"),
        (TimeoutError(), False, True, "TimeoutError"),
        (ValueError("header"), True, False, "ValueError"),
        (MailNotSent(), False, False, "MailNotSent"),
    ],
)
def test_failure_is_classified(error, permanent, service_down, summary):
    failure = classify_failure(error)

    assert (failure.permanent, failure.service_down) == (permanent, service_down)
    assert failure.summary == summary
