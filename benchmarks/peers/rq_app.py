"""RQ: `rq worker --worker-class rq.worker.SimpleWorker`."""

import os
import sys
import time

import moments
import tally
from redis import Redis
from rq import Queue


def nothing():
    tally.mark()
    return 1


def note(sent):
    moments.note(sent)


if __name__ == "__main__":
    import rq_app

    queue = Queue(connection=Redis.from_url(os.environ["REDIS"]))
    verb, count = sys.argv[1], int(sys.argv[-1] if sys.argv[1] == "fill" else sys.argv[2])
    if verb == "send":
        for _ in range(count):
            time.sleep(float(sys.argv[3]))
            queue.enqueue(rq_app.note, time.time_ns())
    else:
        began = time.perf_counter()
        for _ in range(count):
            queue.enqueue(rq_app.nothing)
        print(count / (time.perf_counter() - began), len(queue))
