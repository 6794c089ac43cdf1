"""The tables of a PostgreSQL storage, their promises, and the steps from one version to the next."""

from __future__ import annotations

VERSION = 1  # number of the fact `schema version`

# `seq` is the order of enqueue. Locks are held while the state is `running`; afterwards they only tell.
# All text is compared byte by byte ("C"), whatever the database's language.
# The hot indexes are partial: each holds only the rows of one moment of a run's life, so that neither
# history nor a long queue makes a claim slower. A query uses one only if it repeats its condition.
# Dead versions of rows are cleaned up early: a queue is a small table with very many of them.
_VERSION_1 = (
    """
    create table runs (
        seq bigint generated always as identity primary key,
        id text collate "C" not null unique,
        task text collate "C" not null,
        state text collate "C" not null,
        lane text collate "C" not null,
        pool text collate "C" not null,
        priority bigint not null,
        due_at bigint not null,
        created_at bigint not null,
        started_at bigint,
        finished_at bigint,
        expires_at bigint,
        claim_no bigint not null default 0,
        attempt bigint not null default 0,
        failures bigint not null default 0,
        crashes bigint not null default 0,
        owner text collate "C",
        lock text collate "C",
        extra_locks text[] collate "C",
        cancel_reason text,
        trigger text collate "C" not null,
        schedule text,
        tick bigint,
        missed bigint not null default 0,
        reason text,
        outcome text,
        exit_code bigint,
        signal text,
        host text,
        pid bigint,
        policy text,
        options text,
        cause text,
        detail text,
        output text,
        payload text not null,
        result text,
        error text,
        unique_key text collate "C",
        joins text,
        pipeline text collate "C",
        pipeline_name text collate "C",
        step text,
        compose text,
        check (case
            when state = 'running' then finished_at is null and owner is not null
            when state in ('queued', 'scheduled', 'retrying', 'waiting')
                then finished_at is null and owner is null
            when state in ('succeeded', 'failed', 'cancelled', 'expired', 'skipped')
                then finished_at is not null and owner is null
            else false
        end)
    ) with (
        fillfactor = 85,
        autovacuum_vacuum_scale_factor = 0.01,
        autovacuum_vacuum_threshold = 2000,
        autovacuum_vacuum_cost_delay = 0,
        autovacuum_analyze_scale_factor = 0.02,
        autovacuum_analyze_threshold = 2000
    )
    """,
    """
    create index runs_to_claim on runs (lane, priority desc, due_at, seq)
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
    create index runs_to_time_out on runs (expires_at)
    where state = 'waiting' and expires_at is not null and joins is not null
    """,
    """
    create index runs_running on runs (owner, seq)
    where state = 'running'
    """,
    """
    create index runs_locking on runs (seq)
    where state = 'running' and (lock is not null or extra_locks is not null)
    """,
    """
    create index runs_to_cancel on runs (owner, seq)
    where state = 'running' and cancel_reason is not null
    """,
    """
    create index runs_done on runs (state, finished_at, seq)
    where finished_at is not null
    """,
    """
    create index runs_done_by_task on runs (task, finished_at, seq)
    where finished_at is not null
    """,
    """
    create unique index runs_holding_a_key on runs (unique_key)
    where unique_key is not null and finished_at is null
    """,
    """
    create index runs_of_a_pipeline on runs (pipeline, seq)
    where pipeline is not null
    """,
    # These are whole: they cost something with every version of a row.
    """
    create index runs_by_task on runs (task, state, seq)
    """,
    """
    create index runs_by_state on runs (state, seq)
    """,
    """
    create index runs_created on runs (created_at, seq)
    """,
    """
    create index runs_by_tail on runs (reverse(id) collate "C")
    """,
    # What waits (`run`, by its seq) for what (`predecessor`, by its id: it may not be there).
    # `is_done` spares a join of many a look at all of them with each end.
    """
    create table edges (
        run bigint not null,
        place bigint not null,
        predecessor text collate "C" not null,
        condition text not null,
        is_done boolean not null,
        primary key (run, place)
    )
    """,
    """
    create index edges_to_come on edges (predecessor, run)
    where not is_done
    """,
    """
    create index edges_not_done on edges (run)
    where not is_done
    """,
    # Earlier attempts only: a run's own row describes its latest.
    """
    create table attempts (
        seq bigint not null,
        number bigint not null,
        outcome text not null,
        started_at bigint,
        ended_at bigint not null,
        exit_code bigint,
        signal text,
        host text,
        pid bigint,
        output text,
        error text,
        primary key (seq, number)
    )
    """,
    """
    create index attempts_ended on attempts (ended_at, seq)
    """,
    """
    create table schedules (
        key text collate "C" primary key,
        watermark bigint not null,
        next_at bigint
    ) with (fillfactor = 50)
    """,
    """
    create table pauses (
        target text collate "C" primary key,
        since bigint not null,
        until bigint,
        by text not null,
        reason text not null
    )
    """,
    """
    create table revocations (
        target text collate "C" primary key,
        since bigint not null,
        until bigint,
        once boolean not null,
        by text not null
    )
    """,
    # Starts of a task in one window of its rate.
    """
    create table starts (
        task text collate "C" primary key,
        window_no bigint not null,
        width bigint not null,
        number bigint not null
    ) with (fillfactor = 50)
    """,
    """
    create table supervisors (
        id text collate "C" primary key,
        host text not null,
        pid bigint not null,
        process_start bigint not null,
        boot_id text not null,
        started_at bigint not null,
        config text not null,
        config_hash text not null,
        status text not null,
        heartbeat_at bigint not null,
        lease_until bigint not null,
        left_at bigint,
        lost boolean not null default false
    ) with (fillfactor = 50)
    """,
    # One catalogue for each supervisor that lives, and the last one of all.
    """
    create table catalogues (
        owner text collate "C" primary key,
        published_no bigint generated always as identity,
        head text not null,
        kept text[] not null
    )
    """,
    """
    create table entries (
        owner text collate "C" not null,
        place bigint not null,
        task text collate "C" not null,
        entry text not null,
        primary key (task, owner)
    )
    """,
    """
    create table facts (
        name text collate "C" primary key,
        number bigint,
        text text
    ) with (fillfactor = 50)
    """,
    "insert into facts (name, number) values ('control version', 1)",
    # Moved after each write that others should hear of: what polling looks at.
    "create sequence changes",
    "select nextval('changes')",  # only then does its `last_value` move with each call
)

# Step n leads from version n to version n + 1; version 0 is an empty schema.
STEPS: tuple[tuple[str, ...], ...] = (_VERSION_1,)
