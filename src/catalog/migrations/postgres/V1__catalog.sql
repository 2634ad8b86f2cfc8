-- The catalog on PostgreSQL: the tables and views of SQLite's, in a schema of their own (the search path names it while this runs).
-- Times of events are RFC 3339 in UTC, as precise as they were told (`at::timestamptz` reads them); others are microseconds since 1970 in UTC.
-- Names sort by their bytes, whatever the database's locale.

create table event (
    seq    bigint generated always as identity primary key,
    -- However often an event is delivered, by its name it is written once.
    id     uuid unique,
    at     text not null,
    policy text collate "C" not null,
    run    uuid not null,
    kind   text not null,
    body   jsonb not null
);

create index event_of_run on event (run, seq);
create index event_of_policy on event (policy, kind, seq);
create index event_of_kind on event (kind, seq);

create function append_only() returns trigger language plpgsql as $$
begin
    raise exception 'the catalog is append-only: % on % is refused', tg_op, tg_table_name using errcode = 'integrity_constraint_violation';
end
$$;

create trigger event_is_never_changed before update or delete on event for each row execute function append_only();
create trigger event_is_never_emptied before truncate on event for each statement execute function append_only();

create table coverage (
    policy  text collate "C" not null,
    at      bigint not null,
    covered bigint not null,
    until   text,
    primary key (policy, at)
);

create trigger coverage_is_never_changed before update or delete on coverage for each row execute function append_only();
create trigger coverage_is_never_emptied before truncate on coverage for each statement execute function append_only();

create table ledger (
    store       text collate "C" not null,
    key         text collate "C" not null,
    policy      text collate "C" not null,
    shelf       text collate "C" not null,
    bytes       bigint not null,
    sealed_at   bigint,
    sealed_run  uuid,
    opened_at   bigint,
    wrong_since bigint,
    wrong_at    bigint,
    wrong_depth smallint check (wrong_depth in (0, 1)),
    wrong_run   uuid,
    wrong       jsonb,
    primary key (store, key)
);

create index ledger_of_policy on ledger (policy, store, shelf);
create index ledger_wrong on ledger (policy) where wrong is not null;

-- Of one key there is one run, ever: a row is never removed. `work` is JSON as it is written, for it is part of the key.
create table queue (
    run           uuid primary key,
    policy        text collate "C" not null,
    work          text collate "C" not null,
    scheduled_for bigint not null,
    attempt       bigint not null,
    due_at        bigint not null,
    not_after     bigint,
    priority      smallint not null,
    alone_on      text,
    needs         text[] not null,
    planned       jsonb not null,
    worker        text,
    token         bigint,
    until         bigint,
    ended         boolean not null default false,
    -- When and how it ended.
    ended_at      bigint,
    how           text,
    unique (policy, work, scheduled_for, attempt),
    check ((worker is null) = (token is null) and (token is null) = (until is null)),
    check (not ended or token is null),
    check (ended = (ended_at is not null) and (ended_at is null) = (how is null))
);

create index queue_ended on queue (ended_at) where ended;
create index queue_open on queue (priority, due_at, run) where not ended;
create index queue_held on queue (until) where token is not null;
-- What must be had alone is had by one, however many claim at once.
create unique index queue_alone on queue (alone_on) where token is not null and alone_on is not null;

create function queue_is_kept() returns trigger language plpgsql as $$
begin
    if tg_op <> 'UPDATE' then
        raise exception 'what was planned is never removed' using errcode = 'integrity_constraint_violation';
    end if;
    if new.run <> old.run or new.planned <> old.planned or (old.ended and not new.ended) then
        raise exception 'what was planned is never changed, and what has ended never waits again' using errcode = 'integrity_constraint_violation';
    end if;
    return new;
end
$$;

create trigger queue_is_kept before update or delete on queue for each row execute function queue_is_kept();
create trigger queue_is_never_emptied before truncate on queue for each statement execute function queue_is_kept();

-- Tokens of claims: they only grow.
create sequence queue_token;

create table sequence_given (
    policy text collate "C" primary key,
    value  bigint not null
);

create view run as
select distinct on (run) seq, run, policy, at as planned_at
from event
where kind = 'planned'
order by run, seq;

-- Every artifact that ever was, as the newest event about it says.
create view artifact_ever as
select distinct on (policy, backup, store) *
from (
    select seq, policy,
           body #>> '{committed,backup}' as backup,
           body #>> '{committed,store}' as store,
           (body #>> '{committed,sequence}')::bigint as sequence,
           body #>> '{committed,recovery_point}' as recovery_point,
           body #>> '{committed,finished_at}' as finished_at,
           body -> 'committed' as record
    from event
    where kind = 'committed'
) committed
order by policy, backup, store, seq desc;

-- What took a backup away from a store, or brought it back; the newest stands.
create view artifact_mark as
select distinct on (policy, backup, store) *
from (
    select seq, policy,
           body #>> '{marked,mark,backup}' as backup,
           body #>> '{marked,store}' as store,
           body #>> '{marked,mark,act}' = 'tombstone' as gone
    from event
    where kind = 'marked' and body #>> '{marked,mark,act}' in ('tombstone', 'undelete')
    union all
    select seq, policy, body #>> '{removed,backup}', body #>> '{removed,store}', true
    from event
    where kind = 'removed'
) marked
order by policy, backup, store, seq desc;

-- Every artifact that is there. One that was deleted and is taken in anew from a store is there again.
create view artifact as
select ever.seq, ever.policy, ever.backup, ever.store, ever.sequence, ever.recovery_point, ever.record
from artifact_ever ever
left join artifact_mark mark
       on mark.policy = ever.policy and mark.backup = ever.backup and mark.store = ever.store and mark.seq > ever.seq
where not coalesce(mark.gone, false);

-- Backups that a drill proved, and when the newest of those drills ended.
create view proof as
select distinct on (policy, backup) *
from (
    select seq, policy, body #>> '{drilled,backup,id}' as backup, body #>> '{drilled,finished_at}' as at
    from event
    where kind = 'drilled'
      and body #>> '{drilled,judgement,verdict}' = 'proven'
      and body #>> '{drilled,backup,id}' is not null
) proven
order by policy, backup, seq desc;

-- Scratches that were made, and of which nobody has said that they are gone.
create view scratch_owed as
select made.seq, made.policy, made.run, made.body #>> '{scratch_made,name}' as name
from event made
where made.kind = 'scratch_made'
  and not exists (
      select 1
      from event gone
      where gone.kind = 'scratch_destroyed'
        and gone.body #>> '{scratch_destroyed,name}' = made.body #>> '{scratch_made,name}'
  );
