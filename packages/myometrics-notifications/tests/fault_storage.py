"""A storage that takes some time, and fails while the file ``fail`` is beside its folder."""

import time
from pathlib import Path

from django.core.files.storage import FileSystemStorage


class DisturbedStorage(FileSystemStorage):
    def save(self, name, content, max_length=None):
        name = super().save(name, content, max_length)
        time.sleep(0.05)
        if Path(self.location).with_name("fail").exists():
            raise OSError("no space left")
        return name
