"""Export and erasure of what this package holds."""

from __future__ import annotations

import pytest
from django.contrib.auth import get_user_model
from specified import DEFAULT_SWITCHES

from myometrics_core.events import publish
from myometrics_core.personal_data import erase_user
from myometrics_core.personal_data.sections import personal_data_sections
from myometrics_notifications.models import Message, NotificationSettings
from myometrics_notifications.services import notification_settings_update

pytestmark = pytest.mark.django_db


def test_settings_are_exported_before_their_first_use(exported_switches, user):
    assert exported_switches(user) == DEFAULT_SWITCHES
    assert NotificationSettings.objects.count() == 0


def test_settings_are_exported_as_set(exported_switches, user, make_user):
    notification_settings_update(user=make_user(), switches={"analysis_ready": False})
    notification_settings_update(user=user, switches={"system_alerts": True})

    assert exported_switches(user) == {**DEFAULT_SWITCHES, "system_alerts": True}


def test_section_is_a_single_object_in_second_place():
    (section,) = (s for s in personal_data_sections() if s.name == "notification_settings")

    assert (section.many, section.order) == (False, 20)


def test_erasure_deletes_settings_and_messages_of_that_user_only(user, make_user, make_event):
    other_user = make_user()
    for one in (user, other_user):
        notification_settings_update(user=one, switches={"system_alerts": True})
        publish(make_event(actor_id=one.pk))

    erase_user(user)

    assert list(get_user_model().objects.all()) == [other_user]
    assert [message.recipient_id for message in Message.objects.all()] == [other_user.pk]
    assert [settings.user_id for settings in NotificationSettings.objects.all()] == [other_user.pk]


def test_deleting_a_user_deletes_settings_and_messages(user, make_event):
    notification_settings_update(user=user, switches={"system_alerts": True})
    publish(make_event(actor_id=user.pk))

    user.delete()

    assert Message.objects.count() == NotificationSettings.objects.count() == 0
