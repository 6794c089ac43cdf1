"""SAQ on Redis or Postgres: `saq saq_app.settings --workers 2`."""

import asyncio
import os
import sys
import time

import moments
import tally
from saq import Queue

queue = Queue.from_url(os.environ["REDIS"] if os.environ["STORE"] == "redis" else os.environ["POSTGRES"])


async def nothing(ctx):
    tally.mark()
    return 1


async def note(ctx, *, sent):
    moments.note(sent)


settings = {"queue": queue, "functions": [nothing, note], "concurrency": 10}


async def main():
    verb, count = sys.argv[1], int(sys.argv[-1] if sys.argv[1] == "fill" else sys.argv[2])
    await queue.connect()
    if verb == "send":
        for _ in range(count):
            await asyncio.sleep(float(sys.argv[3]))
            await queue.enqueue("note", sent=time.time_ns())
    else:
        began = time.perf_counter()
        for _ in range(count):
            await queue.enqueue("nothing")
        print(count / (time.perf_counter() - began), await queue.count("queued"))
    await queue.disconnect()


if __name__ == "__main__":
    asyncio.run(main())
