"""Conversion between users as SCIM resources and accounts.

The account decides: the attributes that the provider sent are stored to return them unchanged, but
where the account has another address or name by now, that is returned.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from typing import Any, Final

from django.core.exceptions import ValidationError
from scim2_models import InvalidValueException, Meta

from myometrics_auth.email_addresses import clean_email
from myometrics_core.texts import is_storable
from myometrics_core.users import canonical_email

from .models import ProvisionedUser, ProvisioningGroup
from .schemas import Email, Name, User, UserGroup
from .services import UserData

MAX_TEXT_LENGTH: Final = 254
MAX_EMAILS: Final = 20
MAX_NAME_LENGTH: Final = 30
NO_LAST_NAME: Final = "-"
DERIVED_TYPE: Final = "work"
"""Type of an address that the provider did not send: Entra changes the address of this type."""


def checked_text(text: Any, name: str, *, blank: bool = False) -> str:
    """Return ``text``; raise ``InvalidValueException`` if it is blank or can't be stored."""
    if not isinstance(text, str) or not (text.strip() or blank):
        raise InvalidValueException(detail=f"{name} must not be blank.")
    if len(text) > MAX_TEXT_LENGTH or not is_storable(text):
        raise InvalidValueException(
            detail=f"{name} must have at most {MAX_TEXT_LENGTH} characters, without NUL."
        )
    return text


def user_data(resource: User, provisioned: ProvisionedUser | None = None) -> UserData:
    """Return what ``resource`` says about the user ``provisioned``, or about a new one.

    Raises ``InvalidValueException``, also if there is no usable address.
    """
    user_name = checked_text(resource.user_name, "userName")
    emails = _given_emails(resource, provisioned)
    attributes: dict[str, Any] = {}
    if emails:
        attributes["emails"] = [_dumped(email) for email in emails]
    if resource.name is not None and (name := _dumped(resource.name)):
        attributes["name"] = name
    if resource.display_name:
        attributes["displayName"] = checked_text(resource.display_name, "displayName")
    return UserData(
        user_name=user_name,
        email=_account_email(user_name, emails, provisioned),
        external_id=checked_text(resource.external_id or "", "externalId", blank=True),
        is_active=resource.active is not False,
        names=_account_names(attributes, is_new=provisioned is None),
        attributes=attributes,
    )


def user_resource(provisioned: ProvisionedUser, groups: Iterable[ProvisioningGroup]) -> User:
    """Return the user as a SCIM resource."""
    user, attributes = provisioned.user, provisioned.attributes
    found = User(
        id=str(user.pk),
        external_id=provisioned.external_id or None,
        user_name=provisioned.user_name,
        name=_shown_name(provisioned),
        display_name=attributes.get("displayName"),
        active=user.is_active,
        emails=_shown_emails(provisioned),
    )
    digest = hashlib.sha256(json.dumps(found.model_dump(), sort_keys=True).encode())
    found.groups = [
        UserGroup.model_validate(
            {"value": str(group.pk), "$ref": f"Groups/{group.pk}", "display": group.display_name}
        )
        for group in groups
    ] or None
    found.meta = Meta(
        resource_type="User",
        created=provisioned.created_at,
        last_modified=provisioned.modified_at,
        version=f'W/"{digest.hexdigest()[:32]}"',
    )
    return found


def _given_emails(resource: User, provisioned: ProvisionedUser | None) -> list[Email]:
    emails: list[Email] = [email for email in resource.emails or () if email.value]
    if len(emails) > MAX_EMAILS:
        raise InvalidValueException(detail=f"A user has at most {MAX_EMAILS} addresses.")
    for email in emails:
        checked_text(email.value, "emails.value")
        checked_text(email.type or "", "emails.type", blank=True)
    return [] if len(emails) == 1 and _was_derived(emails[0], resource, provisioned) else emails


def _was_derived(email: Email, resource: User, provisioned: ProvisionedUser | None) -> bool:
    """Return whether the provider did not send this only address: it follows the user name."""
    address = canonical_email(str(email.value))
    if not email.type:
        return address == canonical_email(str(resource.user_name))
    if provisioned is None or provisioned.attributes.get("emails"):
        return False
    return address == provisioned.user.email_canonical and email.type == DERIVED_TYPE


def _account_email(user_name: str, emails: list[Email], provisioned: ProvisionedUser | None) -> str:
    primary = [str(email.value) for email in emails if email.primary]
    if primary:
        return _address(primary[0])
    try:
        return _address(user_name)
    except InvalidValueException:
        if emails:
            return _address(str(emails[0].value))
        if provisioned is not None:
            return str(provisioned.user.email)
        raise


def _address(text: str) -> str:
    try:
        return clean_email(text)
    except ValidationError as error:
        raise InvalidValueException(detail=" ".join(error.messages)) from error


def _account_names(attributes: dict[str, Any], *, is_new: bool) -> dict[str, str]:
    name = attributes.get("name", {})
    first, last = name.get("givenName"), name.get("familyName")
    if first is None and last is None:
        whole = (name.get("formatted") or attributes.get("displayName") or "").split()
        if not (is_new and whole):
            return {}
        first, last = whole[0], " ".join(whole[1:])
    if not first:
        first, last = last, ""
    names = {"first_name": first or "", "last_name": last or (NO_LAST_NAME if first else "")}
    return {field: _cut(value) for field, value in names.items()}


def _cut(text: str) -> str:
    return text[:MAX_NAME_LENGTH].strip()


def _shown_name(provisioned: ProvisionedUser) -> Name | None:
    user, attributes = provisioned.user, provisioned.attributes
    if not attributes and not provisioned.is_created:
        shown = {"given_name": user.first_name or None, "family_name": user.last_name or None}
        return Name(**shown) if any(shown.values()) else None
    stored = attributes.get("name")
    if not stored:
        return None
    name = Name.model_validate(stored)
    expected = _account_names(attributes, is_new=False)
    if expected and expected != {"first_name": user.first_name, "last_name": user.last_name}:
        name = Name(given_name=user.first_name or None, family_name=user.last_name or None)
    return name


def _shown_emails(provisioned: ProvisionedUser) -> list[Email]:
    address = provisioned.user.email
    stored = provisioned.attributes.get("emails")
    if not stored:
        return [Email(value=address, type=DERIVED_TYPE, primary=True)]
    emails = [Email.model_validate(email) for email in stored]
    same = [e for e in emails if canonical_email(str(e.value)) == canonical_email(address)]
    if not same:
        current = next((email for email in emails if email.primary), emails[0])
        current.value = address
    return emails


def _dumped(value: Any) -> dict[str, Any]:
    dumped: dict[str, Any] = value.model_dump()
    for name, text in dumped.items():
        if isinstance(text, str):
            checked_text(text, name, blank=True)
    return dumped
