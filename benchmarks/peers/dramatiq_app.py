"""Dramatiq on Redis: `dramatiq dramatiq_app --processes 2 --threads 8`."""

import os
import sys
import time

import dramatiq
import moments
import tally
from dramatiq.brokers.redis import RedisBroker

dramatiq.set_broker(RedisBroker(url=os.environ["REDIS"]))


@dramatiq.actor
def nothing():
    tally.mark()


@dramatiq.actor
def note(sent):
    moments.note(sent)


if __name__ == "__main__":
    verb, count = sys.argv[1], int(sys.argv[-1] if sys.argv[1] == "fill" else sys.argv[2])
    if verb == "send":
        for _ in range(count):
            time.sleep(float(sys.argv[3]))
            note.send(time.time_ns())
    else:
        began = time.perf_counter()
        for _ in range(count):
            nothing.send()
        print(count / (time.perf_counter() - began), dramatiq.get_broker().client.llen("dramatiq:default"))
