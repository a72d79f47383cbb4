"""Secrets of second factors are stored encrypted; their keys can be rotated."""

from __future__ import annotations

import pytest
from django.conf import settings as django_settings
from django.core.management import call_command

from myometrics_auth.encryption import UnreadableSecret, decrypt_secret, encrypt_secret
from myometrics_auth.models import TotpDevice

pytestmark = pytest.mark.django_db


class TestSecretsAtRest:
    def test_decrypt_only_for_their_owner(self):
        stored = encrypt_secret("JBSWY3DPEHPK3PXP", owner=1)
        assert decrypt_secret(stored, owner=1) == "JBSWY3DPEHPK3PXP"
        with pytest.raises(UnreadableSecret):
            decrypt_secret(stored, owner=2)

    def test_decrypt_after_a_key_change_while_old_key_is_listed(self, settings):
        old, new = "old" * 20, "new" * 20
        settings.MYOMETRICS_AUTH = {"MFA_ENCRYPTION_KEYS": [old]}
        stored = encrypt_secret("secret", owner=1)
        settings.MYOMETRICS_AUTH = {"MFA_ENCRYPTION_KEYS": [new, old]}
        assert decrypt_secret(stored, owner=1) == "secret"
        settings.MYOMETRICS_AUTH = {"MFA_ENCRYPTION_KEYS": [new]}
        with pytest.raises(UnreadableSecret):
            decrypt_secret(stored, owner=1)

    def test_use_secret_key_and_fallbacks_by_default(self, settings):
        stored = encrypt_secret("secret", owner=1)
        settings.SECRET_KEY_FALLBACKS = [django_settings.SECRET_KEY]
        settings.SECRET_KEY = "another" * 10
        assert decrypt_secret(stored, owner=1) == "secret"

    def test_are_re_encrypted_by_a_command(self, enrolled, doctor, settings):
        settings.MYOMETRICS_AUTH = {"MFA_ENCRYPTION_KEYS": ["new" * 20, django_settings.SECRET_KEY]}
        call_command("auth_rotate_secrets", verbosity=0)
        settings.MYOMETRICS_AUTH = {"MFA_ENCRYPTION_KEYS": ["new" * 20]}
        secret = decrypt_secret(TotpDevice.objects.get().secret, owner=doctor.pk)
        assert secret == enrolled.app.secret
