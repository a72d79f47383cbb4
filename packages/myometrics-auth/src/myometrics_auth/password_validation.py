"""Password validators after NIST SP 800-63B-4, for Django's ``AUTH_PASSWORD_VALIDATORS``."""

from __future__ import annotations

import logging
import threading
from typing import Any

from django.core.exceptions import ImproperlyConfigured, ValidationError
from django.utils.translation import gettext as _
from django.utils.translation import ngettext

from .breached_passwords import RANGE_URL, BreachedPasswords, is_breached_online
from .models import User
from .password_text import normalize_password, password_spellings
from .selectors import has_second_factor

__all__ = ["KnownBreachedPasswordValidator", "SecondFactorLengthValidator"]

logger = logging.getLogger("myometrics.auth.passwords")


class SecondFactorLengthValidator:
    """A minimum length, lower for users who also sign in with a second factor."""

    def __init__(self, min_length: int = 15, min_length_with_second_factor: int = 8) -> None:
        self.min_length = min_length
        self.min_length_with_second_factor = min_length_with_second_factor

    def validate(self, password: str, user: User | None = None) -> None:
        """Raise ``ValidationError`` if ``password`` has too few characters for ``user``."""
        length = len(normalize_password(password))
        if length >= self.min_length:
            return
        if user is not None and not user._state.adding and has_second_factor(user):
            required = self.min_length_with_second_factor
        else:
            required = self.min_length
        if length < required:
            raise ValidationError(
                ngettext(
                    "This password is too short. It must contain at least %(min_length)d "
                    "character.",
                    "This password is too short. It must contain at least %(min_length)d "
                    "characters.",
                    required,
                ),
                code="password_too_short",
                params={"min_length": required},
            )

    def get_help_text(self) -> str:
        return _(
            "Your password must contain at least %(alone)d characters, or %(beside)d if you sign "
            "in with a second factor."
        ) % {"alone": self.min_length, "beside": self.min_length_with_second_factor}


class KnownBreachedPasswordValidator:
    """Rejects passwords from a list of breached ones.

    ``file`` was written by ``manage.py breached_passwords``; a process reads it once.
    ``online`` asks a service that speaks the protocol of "Have I Been Pwned" at ``url`` as well; it
    receives five hexadecimal digits of the password's hash. If it does not answer within
    ``timeout`` seconds, the password is accepted.
    """

    def __init__(
        self,
        file: str | None = None,
        online: bool = False,
        url: str = RANGE_URL,
        timeout: float = 1.0,
    ) -> None:
        if file is None and not online:
            raise ImproperlyConfigured("KnownBreachedPasswordValidator needs a file.")
        if not url.startswith(("https://", "http://")):
            raise ImproperlyConfigured("KnownBreachedPasswordValidator: url is no http URL.")
        try:
            self.passwords = None if file is None else BreachedPasswords(file)
        except (OSError, ValueError) as error:
            raise ImproperlyConfigured(f"KnownBreachedPasswordValidator: {error}.") from error
        self.online, self.url, self.timeout = online, url, timeout

    def validate(self, password: str, user: Any = None) -> None:
        """Raise ``ValidationError`` if ``password`` is in the list."""
        listed = self.passwords
        is_listed = listed is not None and any(
            spelling in listed for spelling in password_spellings(password)
        )
        if is_listed or (self.online and self._is_breached_online(password)):
            raise ValidationError(
                _("This password was part of a data breach. Choose another one."),
                code="password_breached",
            )

    def get_help_text(self) -> str:
        return _("Your password can't be one that was part of a data breach.")

    def _is_breached_online(self, password: str) -> bool:
        found: list[bool] = []

        def ask() -> None:
            try:
                found.append(
                    is_breached_online(
                        normalize_password(password), url=self.url, timeout=self.timeout
                    )
                )
            except (OSError, ValueError) as error:
                logger.warning("Breached passwords can't be looked up: %s", type(error).__name__)

        # A thread: the timeout of a socket covers neither name resolution nor a slow response.
        thread = threading.Thread(target=ask, daemon=True)
        thread.start()
        thread.join(self.timeout)
        return any(found)
