"""Moves the clock of every Python process with this folder on its PYTHONPATH back.

The clock moves when a file appears, while the process is working. What counts
seconds since the machine's start (``time.monotonic``) goes on, as with a clock that is really set.
"""

import os
import threading
import time
from pathlib import Path

import time_machine

OFFSET_FILE = Path(os.environ["CLOCK_IS_MOVED_BACK_BY"])
HOUR = 3600


def move_clock():
    """Wait for the file, then set the clock."""
    while not OFFSET_FILE.exists():
        time.sleep(0.05)
    time_machine.travel(time.time() - HOUR, tick=True).start()


def watch():
    """Watch for the file in this process; the watch of a parent doesn't outlive a fork."""
    threading.Thread(target=move_clock, daemon=True).start()


if OFFSET_FILE.exists():
    move_clock()
else:
    watch()
    os.register_at_fork(after_in_child=watch)
