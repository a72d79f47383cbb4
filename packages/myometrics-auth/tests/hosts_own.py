"""Functions and views that a site may provide."""

from __future__ import annotations

from django.contrib.auth import get_user_model
from django.contrib.auth.backends import ModelBackend
from django.contrib.auth.hashers import PBKDF2PasswordHasher


class QuickPBKDF2(PBKDF2PasswordHasher):
    """Hashes in no time, and keeps how many iterations each computation took."""

    algorithm = "quick_pbkdf2"
    iterations = 40
    computed: list[int] = []

    def encode(self, password, salt, iterations=None):
        self.computed.append(iterations or self.iterations)
        return super().encode(password, salt, iterations)


def is_staff(user):
    """The rule of a site whose administrators are its staff, whatever their role."""
    return user.is_staff


class HastyBackend(ModelBackend):
    """Gives itself away: hashes nothing for an unknown address."""

    def authenticate(self, request, username=None, password=None, **kwargs):
        users = get_user_model().objects
        if not users.filter(email=username).exists():
            return None
        return super().authenticate(request, username, password, **kwargs)


class StrictPolicyMiddleware:
    """A content security policy without anything inline."""

    def __init__(self, get_response):
        self.get_response = get_response

    def __call__(self, request):
        response = self.get_response(request)
        response["Content-Security-Policy"] = (
            "default-src 'self'; img-src 'self' data:; base-uri 'none'; form-action 'self'"
        )
        return response
