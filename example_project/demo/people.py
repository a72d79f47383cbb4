"""The demo users and their credentials."""

from __future__ import annotations

from dataclasses import dataclass

PASSWORD = "myometrics-demo"


@dataclass(frozen=True)
class DemoPerson:
    """A demo user."""

    email: str
    first_name: str
    last_name: str
    role: str
    clinic_name: str


PEOPLE = (
    DemoPerson("admin@example.com", "Ada", "Berger", "admin", "Medical Center"),
    DemoPerson("doctor@example.com", "John", "Doe", "doctor", "Heart Clinic"),
    DemoPerson("technician@example.com", "Jane", "Smith", "technician", "Heart Clinic"),
)
UPLOADERS = ("doctor@example.com", "technician@example.com")
