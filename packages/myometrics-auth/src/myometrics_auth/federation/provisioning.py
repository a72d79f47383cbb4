"""Find, link or create the account for a validated token."""

from __future__ import annotations

import logging
from contextlib import suppress
from datetime import datetime, timezone
from typing import Any, Final

from django.contrib.auth import get_user_model
from django.core.exceptions import ValidationError
from django.db import IntegrityError
from rest_framework.exceptions import ValidationError as APIValidationError

from myometrics_auth.conf import auth_settings
from myometrics_auth.email_addresses import clean_email
from myometrics_auth.errors import InvalidToken
from myometrics_auth.events import (
    publish_account_event,
    publish_failed_sign_in,
    publish_user_change,
)
from myometrics_auth.models import AddressOwnership, Role, User
from myometrics_auth.requests import AnyRequest
from myometrics_auth.services.notices import notice_send
from myometrics_auth.services.users import unreserved_require, user_update
from myometrics_core.api import Conflict
from myometrics_core.db import atomic_write, is_serialization_failure
from myometrics_core.times import utc_now
from myometrics_core.users import canonical_email, keyed_hashes

from .claims import Claims
from .conf import Provider
from .errors import TOKEN_NOT_VALID, refusal
from .link_requests import link_request_create
from .models import ErasedIdentity, Identity
from .providers import providers

logger = logging.getLogger("myometrics.auth.federation")

IDENTITY_PURPOSE: Final = "identity"
"""Purpose of the keyed hash of an erased identity."""
ATTEMPTS: Final = 3


def identity_resolve(*, claims: Claims, request: AnyRequest) -> Identity:
    """Return the identity of a validated token with its active user; apply the provider's role.

    At the first sign-in links the account of the address, or creates one, if the provider's
    settings allow it. Raises ``InvalidToken`` for a deactivated user and for a token from before an
    erasure, and ``PermissionDenied`` with one of the codes of ``refusal``.
    """
    if not claims.meets_requirements:
        raise sign_in_refused("access_not_allowed", claims, request)
    # Userinfo is called before the transaction.
    role, is_known = claims.role, _known(claims) is not None
    if not is_known and _account(claims.email) is None and claims.verified_email:
        claims.names  # noqa: B018 (cached)
    for attempt in range(ATTEMPTS):
        try:
            identity, code = _resolve_once(claims, role, request)
            break
        except APIValidationError:  # the address is reserved for its former owner
            identity, code = None, "identity_not_linked"
            break
        except IntegrityError as error:  # a concurrent first sign-in or registration was faster
            if is_serialization_failure(error) or attempt == ATTEMPTS - 1:
                raise
    if identity is None or code:
        email = claims.email if identity is None else identity.user.email
        raise sign_in_refused(code, claims, request, email=email)
    _apply_role(identity, role, request)
    return identity


def identity_create(*, user: User, claims: Claims, request: AnyRequest | None) -> Identity:
    """Link the identity of ``claims`` to ``user``, whose row the caller has locked.

    Raises ``IntegrityError`` if it is linked already.
    """
    identity = Identity.objects.create(
        user=user,
        issuer=claims.issuer,
        subject=claims.subject,
        provider=claims.provider.slug,
        email=claims.verified_email,
    )
    publish_account_event("identity_linked", user=user, request=request)
    notice_send(user=user, notice="identity_linked", request=request)
    return identity


def require_not_erased(claims: Claims) -> None:
    """Raise ``InvalidToken`` for a token that is older than the erasure of its user."""
    hashes = keyed_hashes(IDENTITY_PURPOSE, claims.issuer, claims.subject)
    issued_at = datetime.fromtimestamp(claims.issued_at, timezone.utc)
    if ErasedIdentity.objects.filter(pk__in=hashes, erased_at__gte=issued_at).exists():
        raise InvalidToken


def sign_in_refused(
    code: str, claims: Claims, request: AnyRequest, *, email: str | None = None
) -> Exception:
    """Record a failed sign-in of ``email``, by default the token's; return its exception."""
    address = claims.email if email is None else email
    if address:
        details = {"provider": claims.provider.slug}
        with atomic_write():
            publish_failed_sign_in(email=address, request=request, details=details)
    return refusal(code)


def lock_user(user_id: Any) -> User | None:
    """Return the active user, with the row locked; ``None`` if there is none."""
    users = get_user_model().objects.select_for_update(no_key=True)
    return users.filter(pk=user_id, is_active=True).first()


def _resolve_once(
    claims: Claims, role: str | None, request: AnyRequest
) -> tuple[Identity | None, str]:
    with atomic_write():
        known = _known(claims)
        if known is not None:
            user = lock_user(known.user_id)
            # After the lock: the user may have been erased, or the identity unlinked, before.
            known = _known(claims)
            if user is None and known is not None:
                return known, TOKEN_NOT_VALID  # deactivated
            if user is None or (known is not None and known.user_id != user.pk):
                raise InvalidToken
            if known is not None:
                _follow_address(known, claims)
                return known, ""
        require_not_erased(claims)
        account = _account(claims.email)
        if account is not None:
            return _link(claims, account, request)
        return _create(claims, role, request)


def _follow_address(identity: Identity, claims: Claims) -> None:
    # Only an address in the token itself: userinfo is not called for known identities.
    address = claims.verified_email if "email" in claims.values else ""
    # Providers of one issuer may differ in ``trust_email``, and a slug may have been renamed.
    is_trusted = any(one.trust_email for one in providers() if one.slug == identity.provider)
    if is_trusted and not claims.provider.trust_email:
        address = ""
    slug = identity.provider if is_trusted else claims.provider.slug
    if address and (address, slug) != (identity.email, identity.provider):
        identity.email, identity.provider = address, slug
        identity.save(update_fields=["email", "provider"])
    elif identity.email:
        # Another user may have given the address up since the last sign-in.
        AddressOwnership.objects.follow([identity.user_id])


def _link(claims: Claims, account: User, request: AnyRequest) -> tuple[Identity | None, str]:
    provider = claims.provider
    user = lock_user(account.pk)
    if user is None or user.email_canonical != canonical_email(claims.email):
        return None, "identity_not_linked"
    # After the lock: a concurrent first sign-in may have created or linked the account.
    known = _known(claims)
    if known is not None and known.user_id == user.pk:
        return known, ""
    has_other = Identity.objects.filter(user=user, issuer=claims.issuer).exists()
    is_proven = claims.is_email_verified and provider.trust_email
    may_link = _provisioning(provider) != "linked" and user.verified_at is not None
    if is_proven and may_link and not has_other:
        return identity_create(user=user, claims=claims, request=request), ""
    if is_proven:
        link_request_create(user=user, claims=claims)
    return None, "identity_not_linked"


def _create(claims: Claims, role: str | None, request: AnyRequest) -> tuple[Identity | None, str]:
    if _provisioning(claims.provider) != "create" or not claims.provider.trust_email:
        return None, "access_not_allowed"
    if not claims.is_email_verified:
        return None, "email_not_verified"
    try:
        email = clean_email(claims.email)
    except ValidationError:
        return None, "access_not_allowed"
    first_name, last_name = claims.names
    fields: Any = {"role": role, "is_staff": role == Role.ADMIN} if role else {}
    user: Any = get_user_model().objects.create_user(
        email=email,
        first_name=first_name,
        last_name=last_name,
        verified_at=utc_now(),
        **fields,
    )
    unreserved_require(user)
    details = {"provider": claims.provider.slug}
    publish_user_change(
        "user_created", actor=None, user_id=user.pk, details=details, request=request
    )
    identity = Identity.objects.create(
        user=user,
        issuer=claims.issuer,
        subject=claims.subject,
        provider=claims.provider.slug,
        email=claims.email,
    )
    return identity, ""


def _apply_role(identity: Identity, role: str | None, request: AnyRequest) -> None:
    if role is None or identity.user.role == role:
        return
    changes = {"role": role}
    with suppress(Conflict):  # the last administrator keeps the role
        identity.user = user_update(
            actor=None, user_id=identity.user_id, changes=changes, request=request
        )


def _provisioning(provider: Provider) -> str:
    is_open = auth_settings.REGISTRATION == "open"
    return provider.provisioning or ("create" if is_open else "link")


def _known(claims: Claims) -> Identity | None:
    identities = Identity.objects.select_related("user")
    return identities.filter(issuer=claims.issuer, subject=claims.subject).first()


def _account(email: str) -> User | None:
    if not email:
        return None
    users = get_user_model().objects.filter(email_canonical=canonical_email(email))
    return users.first()
