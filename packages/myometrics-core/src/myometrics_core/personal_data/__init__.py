"""Export and erasure of a user's data."""

from .deliveries import deliver_export, export_deliveries, publish_export, register_export_delivery
from .files import EXPORT_FORMATS, export_chunks, export_filename, spreadsheet_safe
from .sections import PersonalDataSection, erase_user, register_personal_data
from .tables import ExportTable

__all__ = [
    "EXPORT_FORMATS",
    "ExportTable",
    "PersonalDataSection",
    "deliver_export",
    "erase_user",
    "export_chunks",
    "export_deliveries",
    "export_filename",
    "publish_export",
    "register_export_delivery",
    "register_personal_data",
    "spreadsheet_safe",
]
