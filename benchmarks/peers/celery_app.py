"""Celery on Redis, results stored: `celery -A celery_app worker -c 2`."""

import os
import sys
import time

import moments
import tally
from celery import Celery

app = Celery("celery_app", broker=os.environ["REDIS"], backend=os.environ["REDIS"])


@app.task(name="nothing")
def nothing():
    tally.mark()
    return 1


@app.task(name="note", ignore_result=True)
def note(sent):
    moments.note(sent)


if __name__ == "__main__":
    verb, count = sys.argv[1], int(sys.argv[-1] if sys.argv[1] == "fill" else sys.argv[2])
    if verb == "send":
        for _ in range(count):
            time.sleep(float(sys.argv[3]))
            note.delay(time.time_ns())
    else:
        began = time.perf_counter()
        for _ in range(count):
            nothing.delay()
        print(count / (time.perf_counter() - began), app.backend.client.llen("celery"))
