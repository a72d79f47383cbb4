"""The specification in its own spelling; what the tests hold the code against."""

EDITABLE = {
    "firstName": ("Jane", "Johnny"),
    "lastName": ("Smith", "Doe"),
    "clinicName": ("", "Updated Medical Center"),
}
"""What people write in their profile: as ``doctor`` has it, and as another may have it."""

CHANGES = {name: after for name, (_, after) in EDITABLE.items()}

PROFILE = {
    "email": "doctor@clinic.example",
    "role": "doctor",
    **{name: before for name, (before, _) in EDITABLE.items()},
}
"""What the API says of ``doctor``, but for the key and the time (``GET /auth/user/``)."""

PROFILE_KEYS = {"id", "dateJoined", *PROFILE}

USER_KEYS = {"lastLogin", "isActive", *PROFILE_KEYS}
"""What administrators see of a user (``GET /users/``)."""

ERROR_KEYS = {"detail", "code", "field_errors"}
"""The body of every refusal ("Error Handling")."""
