"""huey: `huey_consumer huey_app.huey`. STORE: sqlite, sqlite-nofsync, redis, postgres."""

import itertools
import os
import subprocess
import sys
import time

import moments
import tally

STORE = os.environ["STORE"]
if STORE.startswith("sqlite"):
    from huey import SqliteHuey

    options = {"fsync": False} if STORE == "sqlite-nofsync" else {}
    huey = SqliteHuey(filename=os.environ["FILE"], **options)
elif STORE == "redis":
    from huey import RedisHuey

    huey = RedisHuey(url=os.environ["REDIS"])
else:
    from huey import PostgresHuey

    huey = PostgresHuey(dsn=os.environ["POSTGRES"])


@huey.task()
def nothing():
    tally.mark()
    return 1


@huey.task()
def note(sent):
    moments.note(sent)


@huey.task()
def true():
    subprocess.run(["true"], check=True, capture_output=True)
    tally.mark()


def fill(name, count):
    task = {"nothing": nothing, "true": true}[name]
    for _ in range(count):
        task()


def one_by_one(count):
    began = time.perf_counter()
    for _ in range(count):
        nothing()
    return count / (time.perf_counter() - began)


def send(count, pauses):
    for pause in itertools.islice(itertools.cycle(pauses), count):
        time.sleep(pause)
        note(time.time_ns())


def main(arguments):
    verb, count = arguments[0], int(arguments[-1] if arguments[0] == "fill" else arguments[1])
    if verb == "fill":
        fill(arguments[1], count)
    elif verb == "rate":
        print(one_by_one(count), huey.pending_count())
    else:
        send(count, [float(each) for each in arguments[2].split(",")])


if __name__ == "__main__":
    import huey_app  # its tasks must not be called __main__.nothing

    huey_app.main(sys.argv[1:])
