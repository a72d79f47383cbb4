"""A WebAuthn authenticator and its browser in Python, which can also misbehave."""

from __future__ import annotations

import hashlib
import json
import uuid
from base64 import b64encode
from dataclasses import dataclass, field
from datetime import timedelta
from functools import partial
from secrets import token_bytes

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.x509.oid import NameOID
from webauthn.helpers import base64url_to_bytes, bytes_to_base64url, encode_cbor

from myometrics_core.times import utc_now

ORIGIN = "https://clinic.example"
RP_ID = "clinic.example"
AAGUID = uuid.UUID("d8522d9f-575b-4866-88a9-ba99fa02f35b")

USER_PRESENT, USER_VERIFIED, CAN_SYNC, SYNCED, HAS_CREDENTIAL = 0x01, 0x04, 0x08, 0x10, 0x40


@dataclass
class Authenticator:
    """One authenticator with one credential."""

    verifies_user: bool = True
    is_synced: bool = False
    has_counter: bool = True
    aaguid: uuid.UUID = AAGUID
    origin: str = ORIGIN
    rp_id: str = RP_ID
    attests: str = ""  # "self", "certificate", "apple", "android-safetynet"
    maker: Maker | None = None
    copied: list[bytes] = field(default_factory=list)  # certificates of other authenticators
    credential_id: bytes = field(default_factory=lambda: token_bytes(32))
    key: ec.EllipticCurvePrivateKey = field(
        default_factory=lambda: ec.generate_private_key(ec.SECP256R1())
    )
    sign_count: int = 0
    user_handle: bytes = b""

    def create(self, options, **changes):
        """Respond to ``navigator.credentials.create()``; ``changes`` are those of ``client``."""
        self.user_handle = base64url_to_bytes(options["user"]["id"])
        client_data = self.client("webauthn.create", options, **changes)
        flags = HAS_CREDENTIAL | changes.get("flags", self.flags)
        data = self.data(flags) + self.aaguid.bytes
        data += len(self.credential_id).to_bytes(2, "big") + self.credential_id + self.public_key
        statement, signed = {}, data + hashlib.sha256(client_data).digest()
        if self.attests == "apple":
            statement = self.maker.apple_statement(self.key.public_key(), signed)
        elif self.attests == "android-safetynet":
            statement = self.maker.safetynet_statement(signed, self.copied)
        elif self.attests:
            maker_key = self.maker.key if self.attests == "certificate" else self.key
            statement = {"alg": -7, "sig": maker_key.sign(signed, ec.ECDSA(hashes.SHA256()))}
            if self.attests == "certificate":
                statement["x5c"] = [self.maker.certificate]
        attestation = {
            "fmt": {"": "none", "self": "packed", "certificate": "packed"}.get(
                self.attests, self.attests
            ),
            "attStmt": statement,
            "authData": data,
        }
        response = {
            "clientDataJSON": bytes_to_base64url(client_data),
            "attestationObject": bytes_to_base64url(encode_cbor(attestation)),
            "transports": ["internal", "hybrid", "unheard-of"],
        }
        return self.credential(response)

    def get(self, options, **changes):
        """Respond to ``navigator.credentials.get()``."""
        client_data = self.client("webauthn.get", options, **changes)
        if self.has_counter:
            self.sign_count += 1
        data = self.data(changes.get("flags", self.flags))
        signed = data + hashlib.sha256(client_data).digest()
        response = {
            "clientDataJSON": bytes_to_base64url(client_data),
            "authenticatorData": bytes_to_base64url(data),
            "signature": bytes_to_base64url(self.key.sign(signed, ec.ECDSA(hashes.SHA256()))),
            "userHandle": bytes_to_base64url(self.user_handle),
        }
        return self.credential(response)

    def client(self, kind, options, **changes):
        """Return the client data, which a browser writes."""
        client_data = {
            "type": changes.get("type", kind),
            "challenge": changes.get("challenge", options["challenge"]),
            "origin": changes.get("origin", self.origin),
            "crossOrigin": changes.get("crossOrigin", False),
        }
        return json.dumps(client_data).encode()

    def data(self, flags):
        counter = self.sign_count.to_bytes(4, "big")
        return hashlib.sha256(self.rp_id.encode()).digest() + bytes([flags]) + counter

    def credential(self, response):
        credential_id = bytes_to_base64url(self.credential_id)
        return {
            "id": credential_id,
            "rawId": credential_id,
            "type": "public-key",
            "authenticatorAttachment": "platform",
            "clientExtensionResults": {},
            "response": response,
        }

    @property
    def flags(self):
        flags = USER_PRESENT
        if self.verifies_user:
            flags |= USER_VERIFIED
        if self.is_synced:
            flags |= CAN_SYNC | SYNCED
        return flags

    @property
    def public_key(self):
        numbers = self.key.public_key().public_numbers()
        x, y = numbers.x.to_bytes(32, "big"), numbers.y.to_bytes(32, "big")
        return encode_cbor({1: 2, 3: -7, -1: 1, -2: x, -3: y})


class Maker:
    """A manufacturer, whose certificate attests models of authenticators."""

    def __init__(self, aaguid=AAGUID):
        root_key, root_name = ec.generate_private_key(ec.SECP256R1()), f"Root {uuid.uuid4()}"
        root = certificate(root_name, root_key.public_key(), root_name, root_key, is_root=True)
        self.root = root.public_bytes(serialization.Encoding.PEM)
        self.key = ec.generate_private_key(ec.SECP256R1())
        self.sign = partial(certificate, issuer=root_name, issuer_key=root_key)
        model = {"1.3.6.1.4.1.45724.1.1.4": b"\x04\x10" + aaguid.bytes}
        leaf = self.sign("Authenticator", self.key.public_key(), extensions=model)
        self.certificate = leaf.public_bytes(serialization.Encoding.DER)

    def apple_statement(self, public_key, signed):
        """The statement of a phone, which is no model: its certificate names no AAGUID."""
        nonce = b"\x30\x24\xa1\x22\x04\x20" + hashlib.sha256(signed).digest()
        leaf = self.sign("Phone", public_key, extensions={"1.2.840.113635.100.8.2": nonce})
        return {"x5c": [leaf.public_bytes(serialization.Encoding.DER)]}

    def safetynet_statement(self, signed, x5c):
        """The statement of a phone, to which its user adds the certificate of another model."""
        key = rsa.generate_private_key(65537, 2048)
        leaf = self.sign("attest.android.com", key.public_key())
        chain = [bytes_to_base64url(leaf.public_bytes(serialization.Encoding.DER))]
        payload = {
            "nonce": b64encode(hashlib.sha256(signed).digest()).decode(),
            "timestampMs": int(utc_now().timestamp() * 1000),
            "basicIntegrity": True,
            "ctsProfileMatch": True,
        }
        parts = [{"alg": "RS256", "x5c": chain}, payload]
        text = ".".join(bytes_to_base64url(json.dumps(part).encode()) for part in parts)
        signature = key.sign(text.encode(), padding.PKCS1v15(), hashes.SHA256())
        response = f"{text}.{bytes_to_base64url(signature)}".encode()
        return {"ver": "1", "response": response, "x5c": x5c}


def certificate(subject, public_key, issuer, issuer_key, *, is_root=False, extensions=None):
    def name(text):
        return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)])

    now = utc_now()
    builder = (
        x509.CertificateBuilder()
        .subject_name(name(subject))
        .issuer_name(name(issuer))
        .public_key(public_key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=3650))
        .add_extension(x509.BasicConstraints(ca=is_root, path_length=None), critical=True)
    )
    for oid, value in (extensions or {}).items():
        extension = x509.UnrecognizedExtension(x509.ObjectIdentifier(oid), value)
        builder = builder.add_extension(extension, critical=False)
    return builder.sign(issuer_key, hashes.SHA256())
