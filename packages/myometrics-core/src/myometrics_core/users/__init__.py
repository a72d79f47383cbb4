"""Users, whatever the site's user model: ids, the administrator rule, locks, pseudonyms."""

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
    "UserLike",
    "account_pseudonym",
    "account_pseudonyms",
    "canonical_email",
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
    "site_language",
    "site_time_zone",
    "user_id_json",
    "user_id_schema",
]
