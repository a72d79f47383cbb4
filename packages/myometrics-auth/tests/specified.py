"""The specification in its own spelling; what the tests hold the code against."""

EDITABLE = {
    "firstName": ("Jane", "Johnny", 30),
    "lastName": ("Smith", "Doe", 30),
    "clinicName": ("", "Updated Medical Center", 100),
}
"""What people write in their profile: ``doctor`` has the first, may write the second, and no more
characters than the third."""

CHANGES = {name: after for name, (_, after, _) in EDITABLE.items()}

LONGEST = {name: characters for name, (_, _, characters) in EDITABLE.items()}

PROFILE = {
    "email": "doctor@clinic.example",
    "role": "doctor",
    **{name: before for name, (before, _, _) in EDITABLE.items()},
}
"""What the API says of ``doctor``, but for the key and the time (``GET /auth/user/``)."""

PROFILE_KEYS = {"id", "dateJoined", *PROFILE}

USER_KEYS = {"lastLogin", "isActive", *PROFILE_KEYS}
"""What administrators see of a user (``GET /users/``)."""

ERROR_KEYS = {"detail", "code", "field_errors"}
"""The body of every refusal ("Error Handling")."""
