"""Options for authenticators and verification of their responses, with py_webauthn."""

from __future__ import annotations

import hashlib
import json
import uuid
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any, Final

from cryptography import x509
from webauthn import (
    generate_authentication_options,
    generate_registration_options,
    options_to_json,
    verify_authentication_response,
    verify_registration_response,
)
from webauthn.helpers import (
    base64url_to_bytes,
    bytes_to_base64url,
    parse_attestation_object,
    validate_certificate_chain,
)
from webauthn.helpers.structs import (
    AttestationConveyancePreference,
    AttestationFormat,
    AuthenticatorSelectionCriteria,
    AuthenticatorTransport,
    CredentialDeviceType,
    PublicKeyCredentialDescriptor,
    ResidentKeyRequirement,
    UserVerificationRequirement,
)

from myometrics_auth.conf import auth_settings
from myometrics_auth.models import User

from .conf import Policy, relying_party_id
from .models import Attestation, Passkey

TIMEOUT_MS: Final = 5 * 60 * 1000
AAGUID_EXTENSION: Final = x509.ObjectIdentifier("1.3.6.1.4.1.45724.1.1.4")
PEM_END: Final = b"-----END CERTIFICATE-----"


class InvalidResponse(Exception):
    """An authenticator's response that does not verify."""


@dataclass(frozen=True)
class Registration:
    """A verified new credential."""

    credential_id: str
    public_key: bytes
    sign_count: int
    aaguid: uuid.UUID
    attestation: Attestation
    is_synced: bool


@dataclass(frozen=True)
class Assertion:
    """A verified signature of a known credential; its counter is not compared yet."""

    sign_count: int
    is_user_verified: bool


def user_handle(user: User) -> bytes:
    """Return the identifier of ``user`` in authenticators: the same for all passkeys of a user."""
    return hashlib.sha256(f"myometrics passkey user {user.pk}".encode()).digest()


def registration_options(
    *, user: User, challenge: bytes, passkeys: Collection[Passkey], policy: Policy
) -> dict[str, Any]:
    """Return the ``PublicKeyCredentialCreationOptionsJSON`` for a new passkey of ``user``."""
    conveyance = AttestationConveyancePreference
    options = generate_registration_options(
        rp_id=relying_party_id(),
        rp_name=auth_settings.PASSKEY_NAME,
        user_id=user_handle(user),
        user_name=user.email,
        user_display_name=user.get_full_name().strip() or user.email,
        challenge=challenge,
        timeout=TIMEOUT_MS,
        attestation=conveyance.DIRECT if policy.needs_attestation else conveyance.NONE,
        authenticator_selection=AuthenticatorSelectionCriteria(
            resident_key=ResidentKeyRequirement.PREFERRED,
            user_verification=UserVerificationRequirement.PREFERRED,
        ),
        exclude_credentials=_descriptors(passkeys),
    )
    return dict(json.loads(options_to_json(options)))


def sign_in_options(
    *, challenge: bytes, passkeys: Collection[Passkey] = (), needs_user_verification: bool
) -> dict[str, Any]:
    """Return the ``PublicKeyCredentialRequestOptionsJSON``; without passkeys, any may respond."""
    requirement = UserVerificationRequirement
    options = generate_authentication_options(
        rp_id=relying_party_id(),
        challenge=challenge,
        timeout=TIMEOUT_MS,
        allow_credentials=_descriptors(passkeys),
        user_verification=requirement.REQUIRED
        if needs_user_verification
        else requirement.DISCOURAGED,
    )
    return dict(json.loads(options_to_json(options)))


def challenge_of(credential: dict[str, Any]) -> str:
    """Return the challenge that a response answers, in base64url; empty if it can't be read."""
    try:
        client_data = json.loads(base64url_to_bytes(credential["response"]["clientDataJSON"]))
        challenge = client_data["challenge"].rstrip("=")
        # The decoder skips what is not base64url; such a text is not the challenge.
        is_exact = bytes_to_base64url(base64url_to_bytes(challenge)) == challenge
        return challenge if is_exact else ""
    except Exception:  # any malformed text
        return ""


def registration_verify(
    *, credential: dict[str, Any], challenge: str, origins: Sequence[str], policy: Policy
) -> Registration:
    """Verify the response of an authenticator that created a credential.

    Raises ``InvalidResponse``. The attestation is trusted if its certificate is signed by one of
    the policy's roots.
    """
    _require_same_origin(credential)
    roots = _certificates(policy.roots)
    try:
        verified = verify_registration_response(
            credential=credential,
            expected_challenge=base64url_to_bytes(challenge),
            expected_rp_id=relying_party_id(),
            expected_origin=list(origins),
            pem_root_certs_bytes_by_fmt=dict.fromkeys(AttestationFormat, roots) if roots else None,
        )
        aaguid = uuid.UUID(verified.aaguid)
        chain = _attestation_chain(verified.attestation_object)
        if chain and not _certifies(x509.load_der_x509_certificate(chain[0]), aaguid):
            raise InvalidResponse("The certificate is of another model.")
        if chain and roots:
            # By these alone: for phones the library also trusts roots of its own.
            validate_certificate_chain(x5c=chain, pem_root_certs_bytes=roots)
    except Exception as error:  # the library and its parsers raise many kinds
        raise InvalidResponse(str(error)) from error
    attestation = Attestation.NONE
    if chain:
        attestation = Attestation.TRUSTED if roots else Attestation.DIRECT
    return Registration(
        credential_id=bytes_to_base64url(verified.credential_id),
        public_key=verified.credential_public_key,
        sign_count=verified.sign_count,
        aaguid=aaguid,
        attestation=attestation,
        is_synced=verified.credential_device_type == CredentialDeviceType.MULTI_DEVICE,
    )


def assertion_verify(
    *, credential: dict[str, Any], challenge: str, origins: Sequence[str], passkey: Passkey
) -> Assertion:
    """Verify the signature of ``passkey`` over ``challenge``; raise ``InvalidResponse``."""
    _require_same_origin(credential)
    try:
        handle = credential["response"].get("userHandle")
        if handle and base64url_to_bytes(handle) != user_handle(passkey.user):
            raise InvalidResponse("The credential is of another user.")
        verified = verify_authentication_response(
            credential=credential,
            expected_challenge=base64url_to_bytes(challenge),
            expected_rp_id=relying_party_id(),
            expected_origin=list(origins),
            credential_public_key=bytes(passkey.public_key),
            # The caller compares the counter: the library checks it before the signature, and
            # only a signed counter says that the passkey was copied.
            credential_current_sign_count=0,
        )
    except Exception as error:  # the library and its parsers raise many kinds
        raise InvalidResponse(str(error)) from error
    is_synced = verified.credential_device_type == CredentialDeviceType.MULTI_DEVICE
    if is_synced != passkey.is_synced:
        raise InvalidResponse("Whether a passkey can be synced never changes.")
    return Assertion(
        sign_count=verified.new_sign_count, is_user_verified=bool(verified.user_verified)
    )


def _descriptors(passkeys: Collection[Passkey]) -> list[PublicKeyCredentialDescriptor]:
    return [
        PublicKeyCredentialDescriptor(
            id=base64url_to_bytes(passkey.credential_id),
            transports=[AuthenticatorTransport(one) for one in passkey.transports] or None,
        )
        for passkey in passkeys
    ]


def _require_same_origin(credential: dict[str, Any]) -> None:
    """Refuse responses from a frame on another site's page."""
    try:
        client_data = json.loads(base64url_to_bytes(credential["response"]["clientDataJSON"]))
        is_framed = client_data.get("crossOrigin", False) is not False
    except Exception as error:  # any malformed text
        raise InvalidResponse("The client data can't be read.") from error
    if is_framed:
        raise InvalidResponse("The page is framed by another origin.")


def _certificates(pem: bytes | None) -> list[bytes]:
    parts = (pem or b"").split(PEM_END)
    return [part.strip() + b"\n" + PEM_END for part in parts if part.strip()]


def _attestation_chain(attestation_object: bytes) -> list[bytes]:
    """Return the verified certificates, that of the authenticator first; empty without any."""
    attestation = parse_attestation_object(attestation_object)
    if attestation.fmt == AttestationFormat.ANDROID_SAFETYNET:
        return []  # it has them elsewhere; the library verifies none that are here
    return attestation.att_stmt.x5c or []


def _certifies(certificate: x509.Certificate, aaguid: uuid.UUID) -> bool:
    try:
        extension: Any = certificate.extensions.get_extension_for_oid(AAGUID_EXTENSION)
    except x509.ExtensionNotFound:
        return True
    # An OCTET STRING of 16 bytes.
    return bool(extension.value.value[-16:] == aaguid.bytes)
