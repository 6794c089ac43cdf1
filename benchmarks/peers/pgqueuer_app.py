"""PgQueuer: what `pgq run pgqueuer_app:create --batch-size 100` does, by the word `serve`."""

import asyncio
import os
import sys
import time

import moments
import psycopg
import tally
from pgqueuer import PgQueuer
from pgqueuer.db import PsycopgDriver
from pgqueuer.queries import Queries


async def driver():
    return PsycopgDriver(await psycopg.AsyncConnection.connect(os.environ["POSTGRES"], autocommit=True))


async def create():
    pgq = PgQueuer(await driver())

    @pgq.entrypoint("nothing")
    async def nothing(job):
        tally.mark()

    @pgq.entrypoint("note")
    async def note(job):
        moments.note(job.payload.decode())

    return pgq


async def serve():
    await (await create()).run(batch_size=100)


async def main():
    queries = Queries(await driver())
    verb, count = sys.argv[1], int(sys.argv[-1] if sys.argv[1] == "fill" else sys.argv[2])
    if verb == "send":
        for _ in range(count):
            await asyncio.sleep(float(sys.argv[3]))
            await queries.enqueue("note", str(time.time_ns()).encode())
    elif verb == "fill":
        for start in range(0, count, 1000):
            size = min(1000, count - start)
            await queries.enqueue(["nothing"] * size, [None] * size, [0] * size)
    else:
        began = time.perf_counter()
        for _ in range(count):
            await queries.enqueue("nothing", None)
        rate = count / (time.perf_counter() - began)
        print(rate, sum(each.count for each in await queries.queue_size()))


if __name__ == "__main__":
    asyncio.run(serve() if sys.argv[1] == "serve" else main())
