"""Users, whatever the site's user model: ids, the administrator rule, locks, pseudonyms."""

from .address_owners import (
    AddressOwners,
    AddressOwnership,
    address_owners_changed,
    address_ownerships,
    address_ownerships_by_key,
    connect_address_owners_changed,
    register_address_owners,
)
from .email_addresses import canonical_email, fold_email, fold_text, has_ambiguous_domain
from .locking import (
    connect_user_deleted,
    existing_user_ids,
    lock_user_for_delete,
    lock_users_shared,
    lock_users_shared_unless_busy,
)
from .pseudonyms import account_pseudonym, account_pseudonyms, keyed_hash, keyed_hashes
from .user_model import (
    UserLike,
    is_administrator,
    parse_user_id,
    site_language,
    site_time_zone,
    user_id_json,
    user_id_schema,
)

__all__ = [
    "AddressOwners",
    "AddressOwnership",
    "UserLike",
    "account_pseudonym",
    "account_pseudonyms",
    "address_owners_changed",
    "address_ownerships",
    "address_ownerships_by_key",
    "canonical_email",
    "connect_address_owners_changed",
    "connect_user_deleted",
    "existing_user_ids",
    "fold_email",
    "fold_text",
    "has_ambiguous_domain",
    "is_administrator",
    "keyed_hash",
    "keyed_hashes",
    "lock_user_for_delete",
    "lock_users_shared",
    "lock_users_shared_unless_busy",
    "parse_user_id",
    "register_address_owners",
    "site_language",
    "site_time_zone",
    "user_id_json",
    "user_id_schema",
]
