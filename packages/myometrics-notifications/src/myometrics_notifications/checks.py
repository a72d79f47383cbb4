"""System checks. ``E001``–``E003`` are core's, for the settings dictionary."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from django.apps import apps
from django.contrib.auth import get_user_model
from django.core import checks
from django.core.exceptions import FieldDoesNotExist
from django.template import TemplateDoesNotExist, TemplateSyntaxError
from django.template.loader import select_template

from myometrics_core.conf import register_check
from myometrics_core.mail import mail_timeout, register_link_check, register_mail_check

from .conf import notifications_settings
from .kinds import NotificationKind, registered_kinds
from .rendering import TEMPLATES, template_names

HEALTH_LOG = "myometrics_core.health_log"

_SMTP_STEPS = 8


def register_checks() -> None:
    """Register all checks of this module with Django."""
    for check in (
        check_kind_templates,
        check_lease,
        check_mail_address,
        check_health_log,
    ):
        register_check(check, app="myometrics_notifications")
    register_link_check("myometrics_notifications", "W011")
    register_mail_check("myometrics_notifications")


def check_kind_templates(**kwargs: Any) -> list[checks.CheckMessage]:
    """E010: a template of a kind's mail is missing or does not compile."""
    return [problem for kind in registered_kinds() for problem in _template_problems(kind)]


def check_lease(**kwargs: Any) -> list[checks.CheckMessage]:
    """E011: ``LEASE`` is shorter than one slow SMTP conversation, so mails could be sent twice."""
    try:
        timeout = mail_timeout()
    except Exception:  # reported by W020
        return []
    longest = timeout * _SMTP_STEPS
    if notifications_settings.LEASE.total_seconds() > longest:
        return []
    message = f"MYOMETRICS_NOTIFICATIONS['LEASE'] must be longer than {longest:g} seconds."
    hint = f"A mail can take {_SMTP_STEPS} steps of {timeout:g} seconds each."
    return [checks.Error(message, hint=hint, id="myometrics_notifications.E011")]


def check_mail_address(**kwargs: Any) -> list[checks.CheckMessage]:
    """W010: the user model has no e-mail field, so no mail is ever sent."""
    user_model = get_user_model()
    name = user_model.get_email_field_name()
    try:
        user_model._meta.get_field(name)
    except FieldDoesNotExist:
        if not hasattr(user_model, name):
            message = f"{user_model.__name__} has no {name!r}: no notification is ever mailed."
            hint = "Name the field that holds the address in EMAIL_FIELD of the user model."
            return [checks.Warning(message, hint=hint, id="myometrics_notifications.W010")]
    return []


def check_health_log(**kwargs: Any) -> list[checks.CheckMessage]:
    """I012: health changes are published only if the health log is installed."""
    if apps.is_installed(HEALTH_LOG):
        return []
    message = f"No system alert is ever mailed without {HEALTH_LOG}."
    hint = f"Add {HEALTH_LOG!r} to INSTALLED_APPS and migrate, or silence this."
    return [checks.Info(message, hint=hint, id="myometrics_notifications.I012")]


def _template_problems(kind: NotificationKind) -> Iterator[checks.CheckMessage]:
    for part in TEMPLATES:
        names = template_names(kind, part)
        try:
            select_template(names)
        except (TemplateDoesNotExist, TemplateSyntaxError) as error:
            message = f"The template {names[0]} can't be used: {type(error).__name__}: {error}."
            hint = (
                "Every notification kind needs body.txt and body.html; subject.txt if it has one."
            )
            yield checks.Error(message, hint=hint, id="myometrics_notifications.E010")
