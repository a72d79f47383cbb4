"""Passkeys: register, sign in with, rename and remove them.

A passkey that verified its user is both factors; otherwise it is the second factor after the
password. A user who has a passkey needs a second factor to sign in with the password.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterable, Sequence
from datetime import timedelta
from typing import Any, Final

from django.contrib.auth import get_user_model
from django.db import IntegrityError
from django.utils.translation import gettext_lazy as _
from rest_framework.exceptions import (
    APIException,
    NotFound,
    PermissionDenied,
    ValidationError,
)
from webauthn.helpers import bytes_to_base64url

from myometrics_auth.errors import EmailNotVerified, InvalidCredentials, InvalidToken
from myometrics_auth.events import (
    publish_account_event,
    publish_failed_sign_in,
    publish_user_change,
)
from myometrics_auth.models import Session, User
from myometrics_auth.requests import AnyRequest, lock_caller
from myometrics_auth.selectors import has_second_factor, must_verify_email
from myometrics_auth.services.login_throttle import own_password_check
from myometrics_auth.services.notices import notice_send
from myometrics_auth.services.reauthentication import (
    ReauthenticationRequired,
    is_recent_sign_in,
    recent_sign_in_require,
)
from myometrics_auth.services.second_factor import second_factor_added, second_factor_removed
from myometrics_auth.services.sessions import is_over, session_start
from myometrics_auth.services.sign_in import user_of_mfa_token
from myometrics_auth.services.verification import password_disable
from myometrics_auth.sign_in_methods import count_sign_in_methods
from myometrics_core.api import CallerDeleted, Conflict
from myometrics_core.db import atomic_write
from myometrics_core.times import utc_now

from .conf import policy_for, relying_party_id
from .models import Attestation, Passkey, PasskeyChallenge, Purpose
from .webauthn_responses import (
    InvalidResponse,
    assertion_verify,
    challenge_of,
    registration_options,
    registration_verify,
    sign_in_options,
)

MAX_PASSKEYS: Final = 20
"""Passkeys per user: all of them are sent to the browser."""
CHALLENGE_LIFETIME: Final = timedelta(minutes=5)
CHALLENGE_BYTES: Final = 32


def passkey_begin_registration(
    *, user: User, session: Session | None, password: str | None, request: AnyRequest
) -> dict[str, Any]:
    """Return the options for creating a passkey.

    Needs the password, or a sign-in within the last ten minutes. Raises ``ValidationError`` on
    ``password``, ``ReauthenticationRequired`` without a password, and ``Conflict`` if the user has
    the maximum number of passkeys.
    """
    if password is None:
        if not is_recent_sign_in(session):
            raise ReauthenticationRequired
    elif not own_password_check(user=user, password=password, request=request):
        raise ValidationError({"password": [_("The password is not right.")]})
    passkeys = list(Passkey.objects.filter(user=user))
    _require_place_for_another(passkeys)
    challenge = _challenge_create(Purpose.REGISTER, user=user, bound_to=_id_of(session))
    return registration_options(
        user=user, challenge=challenge, passkeys=passkeys, policy=policy_for(user.role)
    )


def passkey_register(
    *,
    user: User,
    session: Session | None,
    credential: dict[str, Any],
    name: str,
    origins: Sequence[str],
    request: AnyRequest,
) -> tuple[Passkey, list[str]]:
    """Store a new passkey; return it, and recovery codes if it is the first second factor.

    In that case ``session`` counts as signed in with a second factor, and all others end. Raises
    ``ValidationError`` on ``passkey`` if the response is wrong or the role's policy refuses it,
    ``Conflict`` if the user has the maximum number of passkeys, and ``AuthenticationFailed`` if the
    session has ended.
    """
    with atomic_write():
        current = _lock(user, session)
        challenge = challenge_of(credential)
        is_valid = _challenge_take(
            challenge, Purpose.REGISTER, user=current, bound_to=_id_of(session)
        )
        problem: Any = _("The passkey can't be verified. Try again.")
        if is_valid:
            passkeys = list(Passkey.objects.filter(user=current))
            _require_place_for_another(passkeys)
            try:
                passkey = _verified(current, credential, challenge, name, origins)
                problem = _policy_problem(passkey) or _duplicate_problem(passkey)
            except InvalidResponse:
                is_valid = False
        if is_valid and problem is None:
            return passkey, _store(current, session, passkey, request)
    # Outside the block, so that the challenge stays used.
    raise ValidationError({"passkey": [problem]})


def passkey_begin_sign_in() -> dict[str, Any]:
    """Return the options for a sign-in by any passkey that verifies its user.

    They are the same for all users: the browser or the authenticator finds the passkey.
    """
    challenge = _challenge_create(Purpose.SIGN_IN)
    return sign_in_options(challenge=challenge, needs_user_verification=True)


def passkey_begin_second_factor(*, token: str) -> dict[str, Any]:
    """Return the options for the passkeys of the user who has passed the password step.

    ``token`` is the ``mfa_token``. Raises ``AuthenticationFailed`` if it is not valid, and
    ``Conflict`` (``no_passkey``) if the user has none.
    """
    user, claims = user_of_mfa_token(token, get_user_model().objects.all())
    passkeys = list(Passkey.objects.filter(user=user))
    if not passkeys:
        raise Conflict(_("This account has no passkey."), "no_passkey")
    challenge = _challenge_create(Purpose.SECOND_FACTOR, user=user, bound_to=claims.token_id)
    return sign_in_options(challenge=challenge, passkeys=passkeys, needs_user_verification=False)


def passkey_sign_in(
    *,
    credential: dict[str, Any],
    origins: Sequence[str],
    request: AnyRequest,
    in_browser: bool = False,
    is_allowed: Callable[[Any], bool] = lambda user: True,
) -> Session:
    """Sign in with a passkey alone, which must have verified its user.

    ``is_allowed`` restricts who may sign in; ``in_browser`` is passed to ``session_start``. Raises
    ``AuthenticationFailed``, the same for every wrong response; ``PermissionDenied``
    (``passkey_not_allowed``) if the role's policy refuses the passkey; and ``EmailNotVerified``.
    """
    found = Passkey.objects.filter(credential_id=credential["id"]).first()
    with atomic_write():
        users = get_user_model().objects.select_for_update(no_key=True)
        user = None if found is None else users.filter(pk=found.user_id, is_active=True).first()
        refusal = _assertion_refusal(
            credential=credential,
            purpose=Purpose.SIGN_IN,
            user=user,
            origins=origins,
            request=request,
        )
        if user is not None and refusal is None:
            if not is_allowed(user):
                refusal = InvalidCredentials()
            elif must_verify_email(user):
                refusal = EmailNotVerified()  # here, so that the challenge stays used
            else:
                return session_start(
                    user=user, request=request, second_factor=True, in_browser=in_browser
                )
        # There is no account: the credential is counted instead of the address.
        email = credential["id"] if user is None else user.email
        publish_failed_sign_in(email=email, request=request)
    raise refusal or InvalidCredentials()


def passkey_take(
    *,
    user: User,
    credential: dict[str, Any],
    token_id: str,
    origins: Sequence[str],
    request: AnyRequest,
) -> APIException | None:
    """Use a passkey as the second factor; return the error for the client, or ``None``.

    Called in a transaction that has locked ``user`` and is committed either way.
    """
    return _assertion_refusal(
        credential=credential,
        purpose=Purpose.SECOND_FACTOR,
        user=user,
        bound_to=token_id,
        origins=origins,
        request=request,
    )


def passkey_allow(
    *, user: User, credential: dict[str, Any], origins: Sequence[str], request: AnyRequest
) -> bool:
    """Return whether a signed-in user confirmed the identity with an own passkey.

    Takes a response to the options of a sign-in. Records a refused one.
    """
    with atomic_write():
        lock_caller(user)
        refusal = _assertion_refusal(
            credential=credential,
            purpose=Purpose.SIGN_IN,
            user=user,
            origins=origins,
            request=request,
        )
        if refusal is not None:
            publish_account_event("login_failed", user=user, request=request)
    return refusal is None


def passkey_rename(*, user: User, passkey_id: Any, name: str) -> Passkey:
    """Rename a passkey of ``user``; raise ``NotFound`` if it does not exist."""
    with atomic_write():
        lock_caller(user)
        passkey = _own(user, passkey_id)
        passkey.name = name
        passkey.save(update_fields=["name"])
    return passkey


def passkey_remove(
    *, user: User, session: Session | None, passkey_id: Any, request: AnyRequest
) -> None:
    """Remove a passkey of the caller.

    With the last second factor the recovery codes are deleted as well. Raises ``NotFound``,
    ``PermissionDenied`` if ``REAUTHENTICATE_FOR`` requires a recent sign-in for ``disable_mfa``,
    and ``Conflict`` (``last_way_in``) for the last way to sign in.
    """
    recent_sign_in_require(session=session, operation="disable_mfa")
    with atomic_write():
        current = _lock(user, session)
        passkey = _own(current, passkey_id)
        if count_sign_in_methods(current) < 2:
            problem = _("This is the only way to sign in to this account.")
            raise Conflict(problem, "last_way_in")
        passkey.delete()
        second_factor_removed(user=current)
        publish_account_event("passkey_removed", user=current, request=request)
        notice_send(user=current, notice="passkey_removed", request=request)


def passkeys_remove(*, actor: User, passkeys: Iterable[Passkey], request: AnyRequest) -> int:
    """Remove passkeys of other users as an administrator; return their number.

    A user who could sign in with the passkey alone gets a random password, so that a reset mail
    works.
    """
    removed = 0
    users = get_user_model().objects.select_for_update(no_key=True)
    for passkey in passkeys:
        with atomic_write():
            user = users.filter(pk=passkey.user_id).first()
            if user is None or not Passkey.objects.filter(pk=passkey.pk).delete()[0]:
                continue
            second_factor_removed(user=user)
            if not count_sign_in_methods(user):
                password_disable(user=user)
            publish_user_change(
                "passkey_removed", actor=actor, user_id=user.pk, details={}, request=request
            )
            notice_send(user=user, notice="passkey_removed", request=None)
            removed += 1
    return removed


def challenges_sweep() -> int:
    """Delete expired challenges; return their number."""
    return int(PasskeyChallenge.objects.filter(expires_at__lte=utc_now()).delete()[0])


def _assertion_refusal(
    *,
    credential: dict[str, Any],
    purpose: Purpose,
    user: User | None,
    origins: Sequence[str],
    request: AnyRequest,
    bound_to: str = "",
) -> APIException | None:
    """Use up the challenge of a response and verify it; return the refusal, or ``None``."""
    challenge = challenge_of(credential)
    owner = user if purpose == Purpose.SECOND_FACTOR else None
    is_valid = _challenge_take(challenge, purpose, user=owner, bound_to=bound_to)
    passkey = (
        Passkey.objects.filter(credential_id=credential["id"], user=user).first() if user else None
    )
    if user is None or passkey is None or not is_valid:
        return InvalidCredentials()
    passkey.user = user
    try:
        assertion = assertion_verify(
            credential=credential, challenge=challenge, origins=origins, passkey=passkey
        )
    except InvalidResponse:
        return InvalidCredentials()
    # Authenticators without a counter always send 0.
    if max(assertion.sign_count, passkey.sign_count) and assertion.sign_count <= passkey.sign_count:
        publish_account_event("passkey_counter_regressed", user=user, request=request)
        return InvalidCredentials()
    if purpose == Purpose.SIGN_IN and not assertion.is_user_verified:
        return InvalidCredentials()
    Passkey.objects.filter(pk=passkey.pk).update(
        sign_count=assertion.sign_count, last_used_at=utc_now()
    )
    problem = _policy_problem(passkey)
    return None if problem is None else PermissionDenied(problem, "passkey_not_allowed")


def _policy_problem(passkey: Passkey) -> Any:
    """Return why the policy of the user's role refuses ``passkey``, or ``None``."""
    policy = policy_for(passkey.user.role)
    if not policy.allows_synced and passkey.is_synced:
        return _("Your role may not use a passkey that is synced to other devices.")
    trusted = Attestation.TRUSTED if policy.roots else None
    if policy.needs_attestation and passkey.attestation not in {
        trusted or Attestation.DIRECT,
        Attestation.TRUSTED,
    }:
        return _("Your role may only use a passkey whose authenticator is attested.")
    if policy.aaguids is not None and passkey.aaguid not in policy.aaguids:
        return _("Your role may not use a passkey of this model.")
    return None


def _verified(
    user: User, credential: dict[str, Any], challenge: str, name: str, origins: Sequence[str]
) -> Passkey:
    registration = registration_verify(
        credential=credential,
        challenge=challenge,
        origins=origins,
        policy=policy_for(user.role),
    )
    transports = credential["response"].get("transports") or []
    return Passkey(
        user=user,
        name=name,
        credential_id=registration.credential_id,
        public_key=registration.public_key,
        sign_count=registration.sign_count,
        aaguid=registration.aaguid,
        attestation=registration.attestation,
        is_synced=registration.is_synced,
        transports=transports,
    )


def _duplicate_problem(passkey: Passkey) -> Any:
    is_known = Passkey.objects.filter(credential_id=passkey.credential_id).exists()
    return _("This passkey is registered already.") if is_known else None


def _store(user: User, session: Session | None, passkey: Passkey, request: AnyRequest) -> list[str]:
    is_first = not has_second_factor(user)
    try:
        with atomic_write():
            passkey.save(force_insert=True)
    except IntegrityError as error:
        if problem := _duplicate_problem(passkey):
            raise ValidationError({"passkey": [problem]}) from error
        raise
    publish_account_event("passkey_added", user=user, request=request)
    notice_send(user=user, notice="passkey_added", request=request)
    return second_factor_added(user=user, session=session) if is_first else []


def _challenge_create(purpose: Purpose, *, user: User | None = None, bound_to: str = "") -> bytes:
    """Store a new challenge; raise ``NotFound`` if passkeys have no domain (check ``W040``)."""
    if not relying_party_id():
        raise NotFound
    challenge = secrets.token_bytes(CHALLENGE_BYTES)
    row = PasskeyChallenge(
        challenge=bytes_to_base64url(challenge),
        purpose=purpose,
        user=user,
        bound_to=bound_to,
        expires_at=utc_now() + CHALLENGE_LIFETIME,
    )
    with atomic_write():
        if user is not None:
            lock_caller(user)
        row.save(force_insert=True)
    return challenge


def _challenge_take(
    challenge: str, purpose: Purpose, *, user: User | None = None, bound_to: str = ""
) -> bool:
    """Delete a challenge; return whether it was unused, unexpired and for this purpose and user."""
    rows = PasskeyChallenge.objects.filter(challenge=challenge)
    row = rows.first()
    is_valid = (
        row is not None
        and row.purpose == purpose
        and row.user_id == (None if user is None else user.pk)
        and row.bound_to == bound_to
        and row.expires_at > utc_now()
    )
    return bool(rows.delete()[0]) and is_valid


def _lock(user: User, session: Session | None) -> User:
    """Lock the caller's row; reject the request after a concurrent deactivation or sign-out."""
    users = get_user_model().objects.select_for_update(no_key=True)
    current = users.filter(pk=user.pk).first()
    if current is None:
        raise CallerDeleted()
    if not current.is_active:
        raise InvalidToken
    if is_over(session):
        raise InvalidToken
    return current


def _own(user: User, passkey_id: Any) -> Passkey:
    passkey = Passkey.objects.filter(pk=passkey_id, user=user).first()
    if passkey is None:
        raise NotFound(_("There is no such passkey."))
    return passkey


def _require_place_for_another(passkeys: Sequence[Passkey]) -> None:
    if len(passkeys) >= MAX_PASSKEYS:
        problem = _("An account can have at most %(count)d passkeys.") % {"count": MAX_PASSKEYS}
        raise Conflict(problem, "too_many_passkeys")


def _id_of(session: Session | None) -> str:
    return "" if session is None else str(session.pk)
