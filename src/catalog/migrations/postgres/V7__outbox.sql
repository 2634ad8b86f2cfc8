-- Alarms and letters: the tables of SQLite's V7. Times are microseconds since 1970 in UTC.
create table alarm (
    key  text collate "C" primary key,
    body jsonb not null
);

-- Who decides on alarms that have changed meanwhile is refused.
create table alarm_version (
    only_one smallint primary key check (only_one = 1),
    version  bigint not null
);
insert into alarm_version (only_one, version) values (1, 0);

-- Letters: written with the alarms' new state, and kept until a receiver answered for their arrival (and a while after).
create table letter (
    seq        bigint generated always as identity primary key,
    id         uuid not null unique,
    notifier   text collate "C" not null,
    body       jsonb not null,
    at         bigint not null,
    tries      bigint not null default 0,
    next_try   bigint not null,
    held_until bigint,
    token      bigint not null default 0,
    last_error text,
    done_at    bigint,
    outcome    text check (outcome in ('delivered', 'given_up')),
    answer     text
);
create index letter_waiting on letter (notifier, seq) where done_at is null;
create index letter_done on letter (done_at) where done_at is not null;

-- What became of the letters, also of those that are not kept any more.
create table post (
    notifier     text collate "C" primary key,
    delivered    bigint not null default 0,
    delivered_at bigint,
    given_up     bigint not null default 0,
    given_up_at  bigint
);

-- What the newest look at a policy's drift found; '' is the installation.
create table drift_seen (
    policy text collate "C" primary key,
    at     bigint not null,
    body   jsonb not null
);
