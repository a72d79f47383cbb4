"""Export and erasure of a user's data."""

from __future__ import annotations

from .deliveries import (
    DATA_EXPORTED,
    ExportDelivery,
    deliver_export,
    export_deliveries,
    publish_export,
    register_export_delivery,
)
from .files import EXPORT_FORMATS, export_chunks, export_filename, spreadsheet_safe
from .sections import (
    PersonalDataSection,
    erase_user,
    personal_data_sections,
    register_personal_data,
)
from .tables import ExportTable, csv_lines, json_objects

__all__ = [
    "DATA_EXPORTED",
    "EXPORT_FORMATS",
    "ExportDelivery",
    "ExportTable",
    "PersonalDataSection",
    "csv_lines",
    "deliver_export",
    "erase_user",
    "export_chunks",
    "export_deliveries",
    "export_filename",
    "json_objects",
    "personal_data_sections",
    "publish_export",
    "register_export_delivery",
    "register_personal_data",
    "spreadsheet_safe",
]
