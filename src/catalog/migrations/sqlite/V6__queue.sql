-- The queue: runs that are to be done, and who does them. A row is never removed, for of one key there is one run, ever.
-- Times are microseconds since 1970 in UTC. `work` and `planned` are JSON, `needs` is a JSON array of names.
create table queue (
    run           text primary key,
    policy        text not null,
    work          text not null check (json_valid(work)),
    scheduled_for integer not null,
    attempt       integer not null,
    due_at        integer not null,
    not_after     integer,
    priority      integer not null,
    alone_on      text,
    needs         text not null check (json_valid(needs)),
    planned       text not null check (json_valid(planned)),
    -- Who does it; all three or none.
    worker        text,
    token         integer,
    until         integer,
    ended         integer not null default 0 check (ended in (0, 1)),
    -- When and how it ended.
    ended_at      integer,
    how           text,
    unique (policy, work, scheduled_for, attempt),
    check ((worker is null) = (token is null) and (token is null) = (until is null)),
    check (ended = 0 or token is null),
    check ((ended = 0) = (ended_at is null) and (ended_at is null) = (how is null))
) without rowid;

create index queue_ended on queue (ended_at) where ended = 1;
create index queue_open on queue (priority, due_at, run) where ended = 0;
-- What must be had alone is had by one: the index says so too, whatever the code does.
create unique index queue_alone on queue (alone_on) where token is not null and alone_on is not null;

create trigger queue_key_is_never_changed before update on queue
when new.run <> old.run or new.planned <> old.planned or new.ended < old.ended
begin
    select raise(abort, 'what was planned is never changed, and what has ended never waits again');
end;

create trigger queue_is_never_removed before delete on queue
begin
    select raise(abort, 'what was planned is never removed');
end;

-- Numbers that only grow: the tokens of claims.
create table counter (
    name  text primary key,
    value integer not null
) without rowid;

insert into counter (name, value) values ('token', 0);

-- Sequence numbers of backups that were given out, whatever became of those backups: none is given twice.
create table sequence_given (
    policy text primary key,
    value  integer not null
) without rowid;

-- An event that is delivered late (see the spool) may be delivered twice; by its name it is written once.
alter table event add column id text;
create unique index event_id on event (id) where id is not null;
