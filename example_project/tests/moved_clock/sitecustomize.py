"""Run by every Python with this folder on its PYTHONPATH: moves its clock back, once told to.

It is told by a file, so the clock jumps in the midst of what the process does. What counts
seconds since the machine's start (``time.monotonic``) goes on, as with a clock that is really set.
"""

import os
import threading
import time
from pathlib import Path

import time_machine

TOLD = Path(os.environ["CLOCK_IS_MOVED_BACK_BY"])
HOUR = 3600


def move_when_told():
    """Wait for the file, then set the clock."""
    while not TOLD.exists():
        time.sleep(0.05)
    time_machine.travel(time.time() - HOUR, tick=True).start()


def watch():
    """Watch for the file in this process; the watch of a parent doesn't outlive a fork."""
    threading.Thread(target=move_when_told, daemon=True).start()


if TOLD.exists():
    move_when_told()
else:
    watch()
    os.register_at_fork(after_in_child=watch)
