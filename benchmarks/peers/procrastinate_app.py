"""Procrastinate: `procrastinate -a procrastinate_app.app worker -c 8`."""

import os
import sys
import time

import moments
import psycopg
import tally
from procrastinate import App, PsycopgConnector, SyncPsycopgConnector

if __name__ == "__main__":
    app = App(connector=SyncPsycopgConnector(conninfo=os.environ["POSTGRES"]))
else:
    app = App(connector=PsycopgConnector(conninfo=os.environ["POSTGRES"]))


@app.task(name="nothing")
async def nothing():
    tally.mark()
    return 1


@app.task(name="note")
async def note(sent):
    moments.note(sent)


def length():
    with psycopg.connect(os.environ["POSTGRES"]) as connection:
        return connection.execute("select count(*) from procrastinate_jobs").fetchone()[0]


if __name__ == "__main__":
    verb, count = sys.argv[1], int(sys.argv[-1] if sys.argv[1] == "fill" else sys.argv[2])
    with app.open():
        if verb == "send":
            for _ in range(count):
                time.sleep(float(sys.argv[3]))
                note.defer(sent=time.time_ns())
        elif verb == "fill":
            nothing.batch_defer(*[{} for _ in range(count)])
        else:
            began = time.perf_counter()
            for _ in range(count):
                nothing.defer()
            print(count / (time.perf_counter() - began), length())
