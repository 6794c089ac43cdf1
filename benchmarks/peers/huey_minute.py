"""huey with periodic tasks: `huey_consumer huey_minute.huey`; each notes the moment at which it began."""

import os
import time

from huey import SqliteHuey, crontab

huey = SqliteHuey(filename=os.environ["FILE"])


def begin():
    descriptor = os.open(os.environ["BEGUN"], os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    os.write(descriptor, f"{time.time_ns()}\n".encode())
    os.close(descriptor)


for number in range(int(os.environ["JOBS"])):
    huey.periodic_task(crontab(), name=f"begin{number}")(begin)
