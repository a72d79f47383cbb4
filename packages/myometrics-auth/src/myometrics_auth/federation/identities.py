"""The identities of a user: list, link, unlink."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from datetime import datetime
from typing import Any

from django.db import IntegrityError
from django.db.models import BigIntegerField, QuerySet
from django.utils.translation import gettext_lazy as _
from rest_framework.exceptions import NotFound, ValidationError

from myometrics_auth.errors import InvalidToken
from myometrics_auth.events import publish_account_event, publish_session_events
from myometrics_auth.models import AddressOwnership, Session, UsedToken, User
from myometrics_auth.requests import AnyRequest
from myometrics_auth.services.notices import notice_send
from myometrics_auth.services.sessions import is_over
from myometrics_auth.sign_in_methods import SignInMethod, count_sign_in_methods
from myometrics_core.api import CallerDeleted, Conflict
from myometrics_core.db import atomic_write
from myometrics_core.times import utc_now
from myometrics_core.users import canonical_email

from .claims import Claims
from .conf import Provider
from .errors import refusal
from .models import Identity
from .providers import providers
from .provisioning import identity_create, lock_user, require_not_erased
from .sign_in import token_use_once
from .token_validation import signed_part_hash, validate_id_token


def identities_of(*, user: User) -> QuerySet[Identity]:
    """Return the user's identities, oldest first."""
    return Identity.objects.filter(user=user).order_by("pk")


def linked_addresses(user_ids: Collection[Any]) -> Iterator[tuple[Any, str]]:
    """Yield users with the addresses that their providers have verified.

    Not those of providers whose addresses the site does not trust.
    """
    trusted = [provider.slug for provider in providers() if provider.trust_email]
    identities = Identity.objects.filter(user__in=user_ids, provider__in=trusted).exclude(email="")
    yield from identities.order_by("pk").values_list("user_id", "email")


class IdentitySignIn(SignInMethod):
    """Identities sign users in; with a removed one end its sessions."""

    name = "identities"

    def count(self, user: User) -> int:
        return identities_of(user=user).count()

    def remove(self, user: User, since: datetime | None) -> None:
        identities = identities_of(user=user)
        if since is not None:
            identities = identities.filter(created_at__gte=since)
        Session.objects.filter(federated__identity__in=identities).end()
        identities.delete()
        AddressOwnership.objects.follow([user.pk])


def identity_link(
    *, user: User, session: Session | None, provider: Provider, id_token: str, request: AnyRequest
) -> Identity:
    """Link the identity of an ID token, which is used up, to the signed-in ``user``.

    Raises ``ValidationError`` on ``id_token``, ``PermissionDenied`` if ``required_claims`` refuse
    it, ``Conflict`` if the identity is linked already, and ``AuthenticationFailed`` if ``session``
    has ended.
    """
    try:
        claims = validate_id_token(provider, id_token)
        if not claims.meets_requirements:
            raise refusal("access_not_allowed")
        return _link_once(user, session, claims, signed_part_hash(id_token), request)
    except InvalidToken as error:
        raise ValidationError({"id_token": [error.detail]}) from error
    except IntegrityError as error:
        if not _is_linked(claims):
            raise  # of the site, as by a receiver of a signal
        raise _linked_already() from error


def identity_unlink(*, user: User, identity_id: int, request: AnyRequest) -> None:
    """Unlink an identity; its sessions end.

    Raises ``NotFound``, and ``Conflict`` if the user could not sign in any more.
    """
    with atomic_write():
        current = lock_user(user.pk)
        if current is None:
            raise CallerDeleted()
        own_identities = identities_of(user=current)
        # Django 4.2 can't look larger numbers up.
        is_possible = identity_id <= BigIntegerField.MAX_BIGINT
        identity = own_identities.filter(pk=identity_id).first() if is_possible else None
        if identity is None:
            raise NotFound(_("There is no such identity."))
        if count_sign_in_methods(current) < 2:
            problem = _("This is the only way to sign in to this account.")
            raise Conflict(problem, "last_way_in")
        own = Session.objects.live().filter(federated__identity=identity)
        ended = list(own)
        Session.objects.filter(pk__in=[session.pk for session in ended]).end()
        publish_session_events("logout", sessions=ended, request=request)
        identity.delete()
        AddressOwnership.objects.follow([current.pk])
        publish_account_event("identity_unlinked", user=current, request=request)
        notice_send(user=current, notice="identity_unlinked", request=request)


def _link_once(
    user: User, session: Session | None, claims: Claims, used: str, request: AnyRequest
) -> Identity:
    with atomic_write():
        current = lock_user(user.pk)
        # The owner may have taken the account over while the provider was asked.
        if current is None or is_over(session):
            raise CallerDeleted()
        if UsedToken.objects.filter(pk=used).exists():
            raise InvalidToken
        if _is_linked(claims):
            raise _linked_already()
        require_not_erased(claims)
        token_use_once(token_id=used, expires_at=claims.expires_at)
        identity = identity_create(user=current, claims=claims, request=request)
        is_own_address = canonical_email(claims.verified_email) == current.email_canonical
        if current.verified_at is None and claims.provider.trust_email and is_own_address:
            type(current).objects.filter(pk=current.pk).update(verified_at=utc_now())
    return identity


def _is_linked(claims: Claims) -> bool:
    return Identity.objects.filter(issuer=claims.issuer, subject=claims.subject).exists()


def _linked_already() -> Conflict:
    return Conflict(_("This identity is linked to an account already."), "identity_linked")
