"""Signed notes and checkpoints as in C2SP signed-note, tlog-checkpoint and tlog-cosignature.

A note is text and Ed25519 signatures over it. A checkpoint is a note about a tree: the name of the
log (its origin), the number of leaves and the root. Needs the package ``cryptography`` (extra
``checkpoints``).
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import re
from collections.abc import Iterable
from dataclasses import dataclass

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import (
    Ed25519PrivateKey,
    Ed25519PublicKey,
)

ED25519 = 0x01
COSIGNATURE = 0x04
PRIVATE = "PRIVATE+KEY+"
MAX_NOTE_BYTES = 1_000_000
MAX_SIGNATURES = 100
SIGNATURE_LINE = re.compile(r"\u2014 ([^\s+]+) ([A-Za-z0-9+/]+={0,2})")
SIZE = re.compile(r"0|[1-9][0-9]{0,18}")


class InvalidNote(ValueError):
    """A text that is not a note, a checkpoint or a key."""


@dataclass(frozen=True)
class Signature:
    """A signature line of a note: the name of the key, its id (4 bytes) and the signature."""

    name: str
    key_id: bytes
    value: bytes

    @property
    def line(self) -> str:
        return f"\u2014 {self.name} {_base64(self.key_id + self.value)}\n"


@dataclass(frozen=True)
class VerifierKey:
    """A public key: its text is ``name+id+key``, with the id in hex and the key in base64.

    ``kind`` is the type of its signatures: of a log, or a witness's (with their time).
    """

    name: str
    kind: int
    public: bytes

    @classmethod
    def parse(cls, text: str) -> VerifierKey:
        """Read a key; raise ``InvalidNote`` if it is malformed."""
        name, hash_text, kind, public = _split_key(text.strip())
        key = cls(name, kind, public)
        if key.id.hex() != hash_text:
            raise InvalidNote("the id of the key differs from the key")
        return key

    @property
    def id(self) -> bytes:
        """Return the id (4 bytes) that signatures name."""
        return _key_id(self.name, self.kind, self.public)

    def __str__(self) -> str:
        return f"{self.name}+{self.id.hex()}+{_base64(bytes([self.kind]) + self.public)}"

    def accepts(self, text: str, signature: Signature) -> bool:
        """Return whether ``signature`` over a note's text is from this key."""
        if (signature.name, signature.key_id) != (self.name, self.id):
            return False
        message, value = text.encode(), signature.value
        if self.kind == COSIGNATURE:
            message, value = _cosigned(text, value[:8]), value[8:]
        try:
            Ed25519PublicKey.from_public_bytes(self.public).verify(value, message)
        except InvalidSignature:
            return False
        return True


@dataclass(frozen=True)
class SigningKey:
    """A private key: its text is ``PRIVATE+KEY+name+id+key``."""

    name: str
    kind: int
    seed: bytes

    @classmethod
    def parse(cls, text: str) -> SigningKey:
        """Read a key; raise ``InvalidNote`` (without the key in its message) if malformed."""
        stripped = text.strip()
        if not stripped.startswith(PRIVATE):
            raise InvalidNote("not an Ed25519 private key of a log or a witness")
        name, hash_text, kind, seed = _split_key(stripped.removeprefix(PRIVATE))
        key = cls(name, kind, seed)
        if key.verifier.id.hex() != hash_text:
            raise InvalidNote("the id of the private key differs from the key")
        return key

    def __repr__(self) -> str:
        return f"<private key {self.name}>"

    @property
    def text(self) -> str:
        material = _base64(bytes([self.kind]) + self.seed)
        return f"{PRIVATE}{self.name}+{self.verifier.id.hex()}+{material}"

    @property
    def verifier(self) -> VerifierKey:
        """Return the public key."""
        public = self._key.public_key().public_bytes_raw()
        return VerifierKey(self.name, self.kind, public)

    def sign(self, text: str, *, at: int = 0) -> Signature:
        """Sign a note's text; ``at`` is the time of a witness's signature (POSIX seconds)."""
        if self.kind == COSIGNATURE:
            time = at.to_bytes(8, "big")
            value = time + self._key.sign(_cosigned(text, time))
        else:
            value = self._key.sign(text.encode())
        return Signature(self.name, self.verifier.id, value)

    @property
    def _key(self) -> Ed25519PrivateKey:
        return Ed25519PrivateKey.from_private_bytes(self.seed)


def generate_key(name: str, *, is_witness: bool = False) -> SigningKey:
    """Return a new random key; raise ``InvalidNote`` if the name can't be one."""
    seed = Ed25519PrivateKey.generate().private_bytes_raw()
    return SigningKey(_checked_name(name), COSIGNATURE if is_witness else ED25519, seed)


@dataclass(frozen=True)
class TreeHead:
    """The text of a checkpoint: the origin, the number of leaves and the root."""

    origin: str
    size: int
    root: bytes

    @classmethod
    def parse(cls, text: str) -> TreeHead:
        """Read a note's text; raise ``InvalidNote`` if it is not that of a checkpoint."""
        lines = text.split("\n")
        if len(lines) < 4 or not lines[0] or not SIZE.fullmatch(lines[1]):
            raise InvalidNote("not a checkpoint")
        root = _from_base64(lines[2])
        if len(root) != 32:
            raise InvalidNote("the root of the checkpoint has not 32 bytes")
        return cls(lines[0], int(lines[1]), root)

    @property
    def text(self) -> str:
        return f"{self.origin}\n{self.size}\n{_base64(self.root)}\n"


def split_note(note: str) -> tuple[str, list[Signature]]:
    """Return the text and the signatures of a note; raise ``InvalidNote`` if it is malformed."""
    if len(note) > MAX_NOTE_BYTES or any(char < " " and char != "\n" for char in note):
        raise InvalidNote("not a note")
    text, separator, lines = note.rpartition("\n\n")
    if not separator or not text or not lines.endswith("\n"):
        raise InvalidNote("not a note")
    return text + "\n", read_signatures(lines)


def read_signatures(lines: str) -> list[Signature]:
    """Return the signatures of signature lines; raise ``InvalidNote`` if one is malformed."""
    found: list[Signature] = []
    for line in lines.removesuffix("\n").split("\n"):
        match = SIGNATURE_LINE.fullmatch(line)
        value = _from_base64(match[2]) if match else b""
        if match is None or len(value) < 5 or len(found) == MAX_SIGNATURES:
            raise InvalidNote("not a signature of a note")
        found.append(Signature(match[1], value[:4], value[4:]))
    return found


def add_signatures(note: str, signatures: Iterable[Signature]) -> str:
    """Return the note with more signatures."""
    return note + "".join(signature.line for signature in signatures)


def verified_by(note: str, keys: Iterable[VerifierKey]) -> list[VerifierKey]:
    """Return the keys that have signed a note.

    A wrong signature under the name and id of a key makes the note invalid: raises ``InvalidNote``.
    """
    text, signatures = split_note(note)
    found: list[VerifierKey] = []
    for key in keys:
        own = [one for one in signatures if (one.name, one.key_id) == (key.name, key.id)]
        if not all(key.accepts(text, one) for one in own):
            raise InvalidNote(f"the signature of {key.name} is wrong")
        found += [key] if own else []
    return found


def _cosigned(text: str, time: bytes) -> bytes:
    return f"cosignature/v1\ntime {int.from_bytes(time, 'big')}\n{text}".encode()


def _key_id(name: str, kind: int, public: bytes) -> bytes:
    return hashlib.sha256(f"{name}\n".encode() + bytes([kind]) + public).digest()[:4]


def _split_key(text: str) -> tuple[str, str, int, bytes]:
    """Return the name, the id in hex, the kind and the bytes of ``name+id+key``."""
    name, _, rest = text.partition("+")
    hash_text, _, material = rest.partition("+")
    value = _from_base64(material)
    if len(value) != 33 or value[0] not in (ED25519, COSIGNATURE):
        raise InvalidNote("not an Ed25519 key of a log or a witness")
    return _checked_name(name), hash_text, value[0], value[1:]


def _checked_name(name: str) -> str:
    if not name or "+" in name or not name.isprintable() or any(map(str.isspace, name)):
        raise InvalidNote("the name of a key is text without spaces and '+'")
    return name


def _base64(value: bytes) -> str:
    return base64.b64encode(value).decode()


def _from_base64(text: str) -> bytes:
    try:
        value = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError) as error:
        raise InvalidNote("not base64") from error
    if _base64(value) != text:
        raise InvalidNote("not base64 in canonical form")
    return value
