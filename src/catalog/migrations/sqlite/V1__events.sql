-- The catalog: one table to which rows are only ever added, and views over it.
-- `at` is RFC 3339 in UTC; `run` and `policy` are text; `body` is the event as JSON with one key, which is also `kind`.
create table event (
    seq    integer primary key autoincrement,
    at     text not null,
    policy text not null,
    run    text not null,
    kind   text not null,
    body   text not null check (json_valid(body))
);

create index event_of_run on event (run, seq);
create index event_of_policy on event (policy, kind, seq);
create index event_of_kind on event (kind, seq);

create trigger event_is_never_changed before update on event
begin
    select raise(abort, 'the catalog is append-only: an event is never changed');
end;

create trigger event_is_never_removed before delete on event
begin
    select raise(abort, 'the catalog is append-only: an event is never removed');
end;

-- `insert or replace` removes the old row without asking the trigger above.
create trigger event_is_never_replaced before insert on event
when exists (select 1 from event where seq = new.seq)
begin
    select raise(abort, 'the catalog is append-only: an event is never replaced');
end;

-- Every run that was planned, in the order in which they were.
create view run as
select min(seq) as seq, run, policy, min(at) as planned_at
from event
where kind = 'planned'
group by run;

-- Every artifact that is known, as the newest event about it says.
create view artifact as
select max(seq) as seq,
       policy,
       body ->> '$.committed.backup' as backup,
       body ->> '$.committed.store' as store,
       cast(body ->> '$.committed.sequence' as integer) as sequence,
       body ->> '$.committed.recovery_point' as recovery_point,
       body -> '$.committed' as record
from event
where kind = 'committed'
group by policy, backup, store;

-- Scratches that were made, and of which nobody has said that they are gone. A scratch has its run in its name.
create view scratch_owed as
select made.seq, made.policy, made.run, made.body ->> '$.scratch_made.name' as name
from event made
where made.kind = 'scratch_made'
  and not exists (
      select 1
      from event gone
      where gone.kind = 'scratch_destroyed'
        and gone.body ->> '$.scratch_destroyed.name' = made.body ->> '$.scratch_made.name'
  );
