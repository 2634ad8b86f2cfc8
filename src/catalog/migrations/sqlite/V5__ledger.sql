-- What was read back from the stores: a row an object, which says when it was last right, how deep, and what is wrong with it now.
-- A row goes when its object does. Times are microseconds since 1970 in UTC, by the runner's clock: when the run began that read it.
create table ledger (
    store       text not null,
    key         text not null,
    policy      text not null,
    shelf       text not null,
    bytes       integer not null,
    -- Last right, however deep, and by which run.
    sealed_at   integer,
    sealed_run  text,
    -- Last opened and right.
    opened_at   integer,
    -- Wrong, and not right since at that depth (0: sealed, 1: opened); `wrong` is the finding as JSON.
    wrong_since integer,
    wrong_at    integer,
    wrong_depth integer check (wrong_depth in (0, 1)),
    wrong_run   text,
    wrong       text check (json_valid(wrong)),
    primary key (store, key)
) without rowid;

create index ledger_of_policy on ledger (policy, store, shelf);
create index ledger_wrong on ledger (policy) where wrong is not null;
