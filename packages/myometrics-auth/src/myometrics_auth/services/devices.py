"""Known devices: a sign-in on another one is reported to the user."""

from __future__ import annotations

from datetime import timedelta
from typing import Final

from myometrics_auth.conf import auth_settings
from myometrics_auth.device_families import device_family
from myometrics_auth.models import KnownDevice, Session, User
from myometrics_auth.requests import AnyRequest
from myometrics_core.http import user_agent
from myometrics_core.times import utc_now

from .notices import notice_send

DEVICE_MEMORY: Final = timedelta(days=90)
"""A device is new if there was no sign-in on it for so long."""


def device_record(*, user: User, request: AnyRequest) -> None:
    """Record a sign-in on the requesting device; send a notice if the device is new.

    The caller holds the lock of the user's row, and has not yet created the session. The first
    sign-in ever sends no notice.
    """
    if not auth_settings.SECURITY_NOTICES:
        return
    family, now = device_family(user_agent(request, max_length=512)), utc_now()
    devices = KnownDevice.objects.filter(user=user)
    is_first = user.last_login is None and not devices.exists()
    if not is_first:
        known = devices.filter(family=family, last_seen_at__gt=now - DEVICE_MEMORY)
        if known.update(last_seen_at=now):
            return
        if not _has_session(user, family):
            notice_send(user=user, notice="new_device", request=request)
    KnownDevice.objects.bulk_create(
        [KnownDevice(user=user, family=family, last_seen_at=now)],
        update_conflicts=True,
        unique_fields=["user", "family"],
        update_fields=["last_seen_at"],
    )


def devices_sweep() -> int:
    """Delete devices without a sign-in for ``DEVICE_MEMORY``; return their number."""
    before = utc_now() - DEVICE_MEMORY
    return int(KnownDevice.objects.filter(last_seen_at__lte=before).delete()[0])


def _has_session(user: User, family: str) -> bool:
    # Processes of releases before 0.2, which may still run, record sessions only.
    recent = Session.objects.filter(user=user, refreshed_at__gt=utc_now() - DEVICE_MEMORY)
    user_agents = recent.values_list("user_agent", flat=True).distinct()
    return any(device_family(user_agent) == family for user_agent in user_agents)
