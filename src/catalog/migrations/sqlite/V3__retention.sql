-- Backups that were deleted are no longer offered; that they were there, and who deleted them, stays on record.

-- Every artifact that ever was, as the newest event about it says.
create view artifact_ever as
select max(seq) as seq,
       policy,
       body ->> '$.committed.backup' as backup,
       body ->> '$.committed.store' as store,
       cast(body ->> '$.committed.sequence' as integer) as sequence,
       body ->> '$.committed.recovery_point' as recovery_point,
       body ->> '$.committed.finished_at' as finished_at,
       body -> '$.committed' as record
from event
where kind = 'committed'
group by policy, backup, store;

-- What took a backup away from a store, or brought it back; the newest stands.
create view artifact_mark as
select max(seq) as seq, policy, backup, store, gone
from (
    select seq, policy,
           body ->> '$.marked.mark.backup' as backup,
           body ->> '$.marked.store' as store,
           body ->> '$.marked.mark.act' = 'tombstone' as gone
    from event
    where kind = 'marked' and body ->> '$.marked.mark.act' in ('tombstone', 'undelete')
    union all
    select seq, policy, body ->> '$.removed.backup', body ->> '$.removed.store', 1
    from event
    where kind = 'removed'
)
group by policy, backup, store;

drop view artifact;

-- Every artifact that is there. One that was deleted and is taken in anew from a store is there again.
create view artifact as
select ever.seq, ever.policy, ever.backup, ever.store, ever.sequence, ever.recovery_point, ever.record
from artifact_ever ever
left join artifact_mark mark
       on mark.policy = ever.policy and mark.backup = ever.backup and mark.store = ever.store and mark.seq > ever.seq
where coalesce(mark.gone, 0) = 0;

-- Backups that a drill proved, and when the newest of those drills ended.
create view proof as
select max(seq) as seq,
       policy,
       body ->> '$.drilled.backup.id' as backup,
       body ->> '$.drilled.finished_at' as at
from event
where kind = 'drilled'
  and body ->> '$.drilled.judgement.verdict' = 'proven'
  and body ->> '$.drilled.backup.id' is not null
group by policy, backup;
