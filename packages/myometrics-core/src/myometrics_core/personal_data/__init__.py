"""Export and erasure of a user's data."""

from .deliveries import deliver_export, export_deliveries, publish_export, register_export_delivery
from .files import EXPORT_FORMATS, export_chunks, export_filename, spreadsheet_safe
from .sections import (
    PersonalDataSection,
    erase_user,
    personal_data_sections,
    register_personal_data,
)
from .tables import ExportTable, csv_lines

__all__ = [
    "EXPORT_FORMATS",
    "ExportTable",
    "PersonalDataSection",
    "csv_lines",
    "deliver_export",
    "erase_user",
    "export_chunks",
    "export_deliveries",
    "export_filename",
    "personal_data_sections",
    "publish_export",
    "register_export_delivery",
    "register_personal_data",
    "spreadsheet_safe",
]
