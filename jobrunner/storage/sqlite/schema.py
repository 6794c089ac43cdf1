"""The tables of a SQLite storage, their promises, and the steps from one version to the next."""

from __future__ import annotations

APPLICATION_ID = 0x4A6F6252  # "JobR": tells our databases from those of other programs
VERSION = 3  # PRAGMA user_version

LARGE = 4096  # characters: a longer payload, result or error lies in `bodies`; its column holds ''

# `seq` is the order of enqueue. What the hot path reads stands before what may be long.
# The promises are one `case`: `in` with a list would build that list anew for every row that is written.
# The hot indexes are partial: each holds only the rows of one moment of a run's life, so that neither
# history nor a long queue makes a claim slower. A query uses one only if it repeats its condition.
_VERSION_1 = (
    """
    create table runs (
        seq integer primary key,
        id text not null unique,
        task text not null,
        state text not null,
        lane text not null,
        pool text not null,
        priority integer not null,
        due_at integer not null,
        created_at integer not null,
        started_at integer,
        finished_at integer,
        expires_at integer,
        claim_no integer not null default 0,
        attempt integer not null default 0,
        failures integer not null default 0,
        crashes integer not null default 0,
        owner text,
        lock text,
        cancel_reason text,
        trigger text not null,
        schedule text,
        tick integer,
        missed integer not null default 0,
        reason text,
        outcome text,
        exit_code integer,
        signal text,
        host text,
        pid integer,
        policy text,
        options text,
        cause text,
        detail text,
        output text,
        payload text not null,
        result text,
        error text,
        check (case state
            when 'running' then finished_at is null and owner is not null
            when 'succeeded' then finished_at is not null and owner is null and lock is null
            when 'queued' then finished_at is null and owner is null and lock is null
            when 'failed' then finished_at is not null and owner is null and lock is null
            when 'scheduled' then finished_at is null and owner is null and lock is null
            when 'retrying' then finished_at is null and owner is null and lock is null
            when 'skipped' then finished_at is not null and owner is null and lock is null
            when 'cancelled' then finished_at is not null and owner is null and lock is null
            when 'expired' then finished_at is not null and owner is null and lock is null
            when 'waiting' then finished_at is null and owner is null and lock is null
            else 0
        end)
    ) strict
    """,
    """
    create index runs_to_claim on runs (lane, priority desc, due_at)
    where state = 'queued'
    """,
    """
    create index runs_due on runs (due_at, state)
    where state in ('scheduled', 'retrying')
    """,
    """
    create index runs_to_expire on runs (expires_at)
    where state = 'queued' and expires_at is not null and claim_no = 0
    """,
    """
    create index runs_running on runs (owner)
    where state = 'running'
    """,
    """
    create index runs_locking on runs (lock)
    where state = 'running' and lock is not null
    """,
    """
    create index runs_to_cancel on runs (owner, claim_no)
    where state = 'running' and cancel_reason is not null
    """,
    """
    create index runs_waiting on runs (due_at)
    where state = 'waiting'
    """,
    """
    create index runs_live on runs (task, state)
    where finished_at is null
    """,
    """
    create index runs_done on runs (state, finished_at)
    where finished_at is not null
    """,
    """
    create index runs_done_by_task on runs (task, finished_at)
    where finished_at is not null
    """,
    # These two are whole: they cost an add something, but no claim and no settle.
    """
    create index runs_of_task on runs (task)
    """,
    """
    create index runs_created on runs (created_at)
    """,
    # key: seq * 4 + 0 (payload), 1 (result) or 2 (error).
    """
    create table bodies (
        key integer primary key,
        body text not null
    ) strict
    """,
    # Earlier attempts only: a run's own row describes its latest.
    """
    create table attempts (
        seq integer not null,
        number integer not null,
        outcome text not null,
        started_at integer,
        ended_at integer not null,
        exit_code integer,
        signal text,
        host text,
        pid integer,
        output text,
        error text,
        primary key (seq, number)
    ) strict
    """,
    """
    create index attempts_ended on attempts (ended_at, seq)
    """,
    """
    create table schedules (
        key text primary key,
        watermark integer not null,
        next_at integer
    ) strict, without rowid
    """,
    """
    create table pauses (
        target text primary key,
        since integer not null,
        until integer,
        by text not null,
        reason text not null
    ) strict, without rowid
    """,
    """
    create table supervisors (
        id text primary key,
        host text not null,
        pid integer not null,
        process_start integer not null,
        boot_id text not null,
        started_at integer not null,
        config text not null,
        config_hash text not null,
        status text not null,
        heartbeat_at integer not null,
        left_at integer,
        lost integer not null default 0 check (lost in (0, 1))
    ) strict, without rowid
    """,
    """
    create table entries (
        place integer primary key,
        task text not null unique,
        entry text not null
    ) strict
    """,
    """
    create table facts (
        name text primary key,
        number integer,
        text text
    ) strict, without rowid
    """,
    "insert into facts (name, number) values ('control version', 1)",
)

# What waits for what. `done`: the predecessor is final, or not there; the hot indexes hold the others alone.
_VERSION_2 = (
    *(
        f"alter table runs add column {name} text"
        for name in ("unique_key", "joins", "pipeline", "pipeline_name", "step", "compose")
    ),
    """
    create table edges (
        seq integer not null,
        place integer not null,
        before text not null,
        condition text not null,
        done integer not null default 0 check (done in (0, 1)),
        primary key (seq, place)
    ) strict, without rowid
    """,
    """
    create index edges_open on edges (seq)
    where done = 0
    """,
    """
    create index edges_awaited on edges (before)
    where done = 0
    """,
    """
    create unique index runs_unique on runs (unique_key)
    where unique_key is not null and finished_at is null
    """,
    """
    create index runs_of_pipeline on runs (pipeline)
    where pipeline is not null
    """,
    """
    create index runs_roots on runs (task)
    where joins is not null and pipeline is null and finished_at is null
    """,
    """
    create index runs_to_time_out on runs (expires_at)
    where state = 'waiting' and joins is not null and expires_at is not null and cancel_reason is null
    """,
    """
    create table revocations (
        target text primary key,
        since integer not null,
        until integer,
        once integer not null check (once in (0, 1)),
        by text not null
    ) strict, without rowid
    """,
    """
    create table starts (
        task text primary key,
        window integer not null,
        number integer not null
    ) strict, without rowid
    """,
    # Locks that a running attempt took beside its own; one of an attempt that is over counts no more.
    # The key's columns come first: SQLite 3.40 takes a strict table in another order for damaged.
    """
    create table extra_locks (
        seq integer not null,
        lock text not null,
        claim_no integer not null,
        primary key (seq, lock)
    ) strict, without rowid
    """,
)

_VERSION_3 = (
    # For rare runs of a long history: what is usual (enqueued, scheduled, successful) pays nothing for them.
    """
    create index runs_of_trigger on runs (trigger, seq, task)
    where trigger <> 'schedule' and trigger <> 'enqueue'
    """,
    """
    create index runs_unsuccessful on runs (state, seq, task)
    where finished_at is not null and state <> 'succeeded'
    """,
)

# Step n leads from version n to version n + 1; version 0 is an empty database.
STEPS: tuple[tuple[str, ...], ...] = (_VERSION_1, _VERSION_2, _VERSION_3)
