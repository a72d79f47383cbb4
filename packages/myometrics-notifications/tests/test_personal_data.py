"""Export and erasure of what this package holds."""

from __future__ import annotations

import pytest
from django.contrib.auth import get_user_model
from specified import DEFAULT_SWITCHES

from myometrics_core.events import publish
from myometrics_core.personal_data import erase_user, personal_data_sections
from myometrics_notifications.models import Message, NotificationSettings
from myometrics_notifications.services import notification_settings_update

pytestmark = pytest.mark.django_db


def test_settings_are_exported_before_their_first_use_without_a_row(exported_switches, person):
    assert exported_switches(person) == DEFAULT_SWITCHES
    assert NotificationSettings.objects.count() == 0


def test_settings_are_exported_as_they_were_set(exported_switches, person, make_person):
    notification_settings_update(user=make_person(), switches={"analysis_ready": False})
    notification_settings_update(user=person, switches={"system_alerts": True})

    assert exported_switches(person) == {**DEFAULT_SWITCHES, "system_alerts": True}


def test_the_section_is_one_object_in_second_place():
    (section,) = (s for s in personal_data_sections() if s.name == "notification_settings")

    assert (section.many, section.order) == (False, 20)


def test_erasure_takes_settings_and_messages_of_that_person_alone(
    person, make_person, make_activity
):
    neighbour = make_person()
    for user in (person, neighbour):
        notification_settings_update(user=user, switches={"system_alerts": True})
        publish(make_activity(actor_id=user.pk))

    erase_user(person)

    assert list(get_user_model().objects.all()) == [neighbour]
    assert [message.recipient_id for message in Message.objects.all()] == [neighbour.pk]
    assert [settings.user_id for settings in NotificationSettings.objects.all()] == [neighbour.pk]


def test_deleting_a_user_otherwise_takes_them_along_too(person, make_activity):
    notification_settings_update(user=person, switches={"system_alerts": True})
    publish(make_activity(actor_id=person.pk))

    person.delete()

    assert Message.objects.count() == NotificationSettings.objects.count() == 0
