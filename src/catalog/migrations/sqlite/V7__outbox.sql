-- Alarms, as they were last decided on: a row each, over which the next decision writes. Times in columns are microseconds since 1970 in UTC.
create table alarm (
    key  text primary key,
    body text not null check (json_valid(body))
) without rowid;

-- Who decides on alarms that have changed meanwhile is refused.
create table alarm_version (
    only_one integer primary key check (only_one = 1),
    version  integer not null
);
insert into alarm_version (only_one, version) values (1, 0);

-- Letters: written with the alarms' new state, and kept until a receiver answered for their arrival (and a while after).
create table letter (
    seq        integer primary key autoincrement,
    id         text not null unique,
    notifier   text not null,
    body       text not null check (json_valid(body)),
    at         integer not null,
    tries      integer not null default 0,
    next_try   integer not null,
    -- Somebody is at it, until then; `token` tells his attempt from a later one.
    held_until integer,
    token      integer not null default 0,
    last_error text,
    done_at    integer,
    outcome    text check (outcome in ('delivered', 'given_up')),
    answer     text
);
create index letter_waiting on letter (notifier, seq) where done_at is null;
create index letter_done on letter (done_at) where done_at is not null;

-- What became of the letters, also of those that are not kept any more.
create table post (
    notifier     text primary key,
    delivered    integer not null default 0,
    delivered_at integer,
    given_up     integer not null default 0,
    given_up_at  integer
) without rowid;

-- What the newest look at a policy's drift found; '' is the installation.
create table drift_seen (
    policy text primary key,
    at     integer not null,
    body   text not null check (json_valid(body))
) without rowid;
