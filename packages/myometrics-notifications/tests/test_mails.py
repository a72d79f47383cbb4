"""Contents of a mail: text, HTML, language, time zone, headers."""

from __future__ import annotations

from datetime import datetime, timezone
from email import policy

import django
import pytest
from django.core import mail
from job_runs import deliver

from myometrics_core.events import publish
from myometrics_core.times import utc_now
from myometrics_notifications.built_in_kinds import UploadCompleted
from myometrics_notifications.checks import check_kind_templates
from myometrics_notifications.models import Message
from myometrics_notifications.rendering import message_email
from myometrics_notifications.services import notification_settings_update

pytestmark = pytest.mark.django_db


@pytest.fixture
def mail_about(user, make_event):
    """Publish an event, deliver its message to ``user``, and return the mail."""

    def send(event=None, **fields):
        publish(event or make_event(actor_id=user.pk, resource_id="upload_001", **fields))
        deliver(Message.objects.latest("pk"))
        return mail.outbox[-1]

    return send


@pytest.mark.parametrize(
    ("action", "subject", "sentence"),
    [
        ("upload_completed", "MyoMetrics: an upload is complete", "Your upload upload_001 has"),
        (
            "analysis_ready",
            "MyoMetrics: an analysis is ready",
            "analysis of your upload upload_001",
        ),
    ],
)
def test_mail_has_subject_text_html_and_link_to_the_site(
    mail_about, user, action, subject, sentence
):
    sent = mail_about(action=action)

    html, html_type = sent.alternatives[0]
    assert sent.subject == subject
    assert (sent.to, sent.from_email) == ([user.email], "Clinic <noreply@clinic.example>")
    assert html_type == "text/html"
    for text in (sent.body, html):
        assert sentence in text
        assert "https://clinic.example" in text


@pytest.mark.parametrize(
    ("action", "subject"),
    [
        ("system_degraded", "MyoMetrics: the system is degraded"),
        ("system_down", "MyoMetrics: the system is down"),
        ("system_recovered", "MyoMetrics: the system has recovered"),
    ],
)
def test_alert_names_the_change_and_the_failing_services(
    mail_about, user, health_change, action, subject
):
    notification_settings_update(user=user, switches={"system_alerts": True})

    sent = mail_about(health_change(action))

    assert sent.subject == subject
    assert "redis" in sent.body
    assert "redis" in sent.alternatives[0][0]


def test_mail_contains_no_file_name_finding_or_recipient_name(mail_about):
    sent = mail_about(details={"filename": "byron_ada.dcm", "diagnosis": "Myocardial Infarction"})

    whole = text_of(sent)
    for secret in ("byron", "Byron", "Myocardial"):
        assert secret not in whole


HOSTILE_IDS = [
    "URGENT: sign in at https://evil.example",
    "<script>x</script>\r\nBcc: all@clinic.example & 'more'",
    "evil.example/login",
    "x" * 65,
    "upload\u202e001",
    "upload_001\n",
]


@pytest.mark.parametrize("action", ["upload_completed", "analysis_ready"])
@pytest.mark.parametrize("upload_id", HOSTILE_IDS)
def test_mail_leaves_out_an_id_that_is_not_plain(mail_about, user, make_event, action, upload_id):
    sent = mail_about(make_event(actor_id=user.pk, action=action, resource_id=upload_id))

    whole = text_of(sent)
    for word in ("URGENT", "evil", "script", "Bcc", "x" * 65, "\u202e"):
        assert word not in whole
    assert "our upload has been processed" in sent.body or "of your upload is" in sent.body
    assert sent.recipients() == [user.email]


def test_mail_queued_by_version_0_1_leaves_out_such_an_id(mail_about, queued):
    queued.context = {**queued.context, "upload_id": HOSTILE_IDS[0]}
    queued.save()

    assert "evil" not in text_of(message_email(queued))


@pytest.mark.parametrize("upload_id", ["upload_001", "a" * 64, "2026-11-28:scan.7"])
def test_mail_names_an_upload_by_a_plain_identifier(mail_about, user, make_event, upload_id):
    sent = mail_about(make_event(actor_id=user.pk, resource_id=upload_id))

    assert f"Your upload {upload_id} has been processed" in sent.body
    assert upload_id in sent.alternatives[0][0]


def test_every_attempt_has_the_same_message_id(user, make_event):
    publish(make_event(actor_id=user.pk))
    message = Message.objects.get()

    ids = {message_email(message).message()["Message-ID"] for _ in range(3)}

    assert ids == {f"<{message.mail_uuid}@clinic.example>"}


def test_mail_has_one_click_unsubscribe_headers(mail_about):
    sent = mail_about()

    link = sent.extra_headers["List-Unsubscribe"].strip("<>")
    assert link.startswith("https://clinic.example/api/notifications/unsubscribe/?token=")
    assert sent.extra_headers["List-Unsubscribe-Post"] == "List-Unsubscribe=One-Click"
    assert sent.extra_headers["Auto-Submitted"] == "auto-generated"
    assert link in sent.body


def sent_bytes(email):
    """The mail as Django's SMTP backend sends it."""
    if django.VERSION < (6, 0):
        return email.message().as_bytes(linesep="\r\n")
    return email.message(policy=policy.SMTP).as_bytes()


def text_of(email):
    """Everything in the mail but the token of its link, which may spell any word by chance."""
    token = email.extra_headers["List-Unsubscribe"].strip("<>").partition("?token=")[2]
    whole = sent_bytes(email).decode() + email.subject + email.body + email.alternatives[0][0]
    assert token in whole
    return whole.replace(token, "")


@pytest.mark.parametrize("host", ["clinic.example", f"{'radiology.' * 20}clinic.example"])
def test_list_unsubscribe_is_sent_as_one_line_with_a_plain_url(mail_about, settings, host):
    settings.MYOMETRICS = {**settings.MYOMETRICS, "API_URL": f"https://{host}/api"}

    sent = mail_about()

    headers = sent_bytes(sent).partition(b"\r\n\r\n")[0]
    lines = headers.decode("ascii").split("\r\n")
    link = sent.extra_headers["List-Unsubscribe"]
    assert link.startswith(f"<https://{host}/")
    assert f"List-Unsubscribe: {link}" in lines
    assert "List-Unsubscribe-Post: List-Unsubscribe=One-Click" in lines
    assert max(map(len, lines)) <= 998


def test_list_unsubscribe_reaches_a_mail_server_unchanged(mail_server, queued):
    deliver(queued)

    received = mail_server.received[0].split(b"\r\n")
    assert any(line.startswith(b"List-Unsubscribe: <https://") for line in received)


def test_times_are_in_the_recipients_time_zone(mail_about, settings):
    now = utc_now()
    settings.MYOMETRICS_NOTIFICATIONS = {"RECIPIENT_TIME_ZONE": lambda user: "Pacific/Auckland"}

    sent = mail_about(occurred_at=now)

    assert "NZ" in sent.body
    assert "NZ" in sent.alternatives[0][0]


def test_default_time_zone_is_the_sites(mail_about):
    winter = datetime.now(timezone.utc)

    assert "CE" in mail_about(occurred_at=winter).body


@pytest.mark.parametrize(
    ("action", "subject", "sentence"),
    [
        ("upload_completed", "MyoMetrics: Ein Upload ist fertig", "wurde verarbeitet"),
        ("analysis_ready", "MyoMetrics: Eine Auswertung liegt vor", "Auswertung Ihres Uploads"),
    ],
)
def test_mail_is_in_the_recipients_language(mail_about, settings, action, subject, sentence):
    settings.MYOMETRICS_NOTIFICATIONS = {"RECIPIENT_LANGUAGE": lambda user: "de"}

    sent = mail_about(action=action)

    assert sent.subject == subject
    assert sentence in sent.body
    assert sentence in sent.alternatives[0][0]
    assert '<html lang="de">' in sent.alternatives[0][0]
    assert "Keine weiteren E-Mails" in sent.body


def test_default_language_is_the_sites(mail_about, user, settings, health_change):
    settings.LANGUAGE_CODE = "de"
    notification_settings_update(user=user, switches={"system_alerts": True})

    sent = mail_about(health_change("system_recovered"))

    assert sent.subject == "MyoMetrics: Das System hat sich erholt"
    assert "wieder besser" in sent.body


def test_site_can_override_a_template(mail_about, host_templates):
    subject = "Fertig:\n {{ upload_id }} — {{ site_name }}"
    host_templates("upload_completed", {"subject.txt": subject})

    assert mail_about().subject == "Fertig: upload_001 — MyoMetrics"


def test_default_subject_is_the_title_of_the_kind(mail_about, use_kind, host_templates, settings):
    host_templates("finished", dict.fromkeys(("body.txt", "body.html"), "{{ upload_id }}"))
    settings.MYOMETRICS_NOTIFICATIONS = {"SITE_NAME": "Heart & Lung"}

    class Finished(UploadCompleted):
        name = "finished"

    use_kind(Finished())

    assert check_kind_templates() == []
    assert mail_about().subject == "Heart & Lung: Completed uploads"


def test_site_name_and_sender_are_settings(mail_about, settings):
    settings.MYOMETRICS_NOTIFICATIONS = {
        "SITE_NAME": "Heart Clinic",
        "FROM_EMAIL": "heart@clinic.test",
    }

    sent = mail_about()

    assert sent.subject == "Heart Clinic: an upload is complete"
    assert sent.from_email == "heart@clinic.test"
    assert sent.extra_headers["Message-ID"].endswith("@clinic.test>")
