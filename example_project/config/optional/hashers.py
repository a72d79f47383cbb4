"""Password hashing with the parameters that OWASP recommends for Argon2id."""

from django.contrib.auth.hashers import Argon2PasswordHasher


class TunedArgon2PasswordHasher(Argon2PasswordHasher):
    """Argon2id with 19 MiB, two passes, one lane: about 30 ms of CPU."""

    time_cost = 2
    memory_cost = 19 * 1024
    parallelism = 1
