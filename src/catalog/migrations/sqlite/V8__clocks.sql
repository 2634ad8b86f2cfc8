-- What clocks that are set must not harm.

-- For how long a claim was last granted, in microseconds: so when that was is known, and a lease that a clock granted which was ahead is not believed for as
-- long as that clock was ahead. None: the claim is older than this.
alter table queue add column lease integer;

-- What is claimed is little, and looked at again and again.
create index queue_held on queue (until) where token is not null;

-- In which order places ended: a number that only grows, whatever clocks said. What is to be tried again is asked for by it, for by a clock that was
-- ahead something ends in a time to come, and by one that was behind in a time that was looked at already.
alter table queue add column ended_no integer;

insert into counter (name, value) select 'ended', count(*) from queue where ended = 1;

-- What ended before there were numbers: in the order of its dates.
update queue set ended_no = ranked.n
from (select run, row_number() over (order by ended_at, run) as n from queue where ended = 1) ranked
where ranked.run = queue.run;

create trigger queue_end_is_numbered after update of ended on queue
when new.ended = 1 and old.ended = 0
begin
    update counter set value = value + 1 where name = 'ended';
    update queue set ended_no = (select value from counter where name = 'ended') where run = new.run;
end;

-- As an import writes it.
create trigger queue_ended_is_numbered after insert on queue
when new.ended = 1
begin
    update counter set value = value + 1 where name = 'ended';
    update queue set ended_no = (select value from counter where name = 'ended') where run = new.run;
end;

drop index queue_ended;
create unique index queue_undone on queue (ended_no) where how in ('unproven', 'broke', 'abandoned', 'missed');
