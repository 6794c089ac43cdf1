"""Notes when a call began: `sent` and now, in nanoseconds of the wall clock, one line a call."""

import os
import time


def note(sent):
    now = time.time_ns()
    descriptor = os.open(os.environ["MOMENTS"], os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    os.write(descriptor, f"{sent} {now}\n".encode())
    os.close(descriptor)
