"""The demo users and their credentials."""

from __future__ import annotations

from dataclasses import dataclass

PASSWORD = "myometrics-demo"


@dataclass(frozen=True)
class DemoUser:
    """A demo user."""

    email: str
    first_name: str
    last_name: str
    role: str
    clinic_name: str


USERS = (
    DemoUser("admin@example.com", "Ada", "Berger", "admin", "Medical Center"),
    DemoUser("doctor@example.com", "John", "Doe", "doctor", "Heart Clinic"),
    DemoUser("technician@example.com", "Jane", "Smith", "technician", "Heart Clinic"),
)
UPLOADERS = ("doctor@example.com", "technician@example.com")
