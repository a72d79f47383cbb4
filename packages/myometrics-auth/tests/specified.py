"""Fields and shapes of the specification, in its spelling."""

EDITABLE = {
    "firstName": ("Jane", "Johnny", 30),
    "lastName": ("Smith", "Doe", 30),
    "clinicName": ("", "Updated Medical Center", 100),
}
"""Profile fields: the value of ``doctor``, a changed value, the maximum length."""

CHANGES = {name: after for name, (_, after, _) in EDITABLE.items()}

MAX_LENGTHS = {name: characters for name, (_, _, characters) in EDITABLE.items()}

PROFILE = {
    "email": "doctor@clinic.example",
    "role": "doctor",
    **{name: before for name, (before, _, _) in EDITABLE.items()},
}
"""``GET /auth/user/`` of ``doctor`` without id and time."""

PROFILE_KEYS = {"id", "dateJoined", *PROFILE}

USER_KEYS = {"lastLogin", "isActive", *PROFILE_KEYS}
"""Fields of a user in ``GET /users/``."""

ERROR_KEYS = {"detail", "code", "field_errors"}
"""Fields of every error body ("Error Handling")."""
