-- What clocks that are set must not harm.

-- For how long a claim was last granted, in microseconds: so when that was is known, and a lease that a clock granted which was ahead is not believed for as
-- long as that clock was ahead. None: the claim is older than this.
alter table queue add column lease bigint;

-- In which order places ended: a number that only grows, whatever clocks said. What is to be tried again is asked for by it, for by a clock that was
-- ahead something ends in a time to come, and by one that was behind in a time that was looked at already.
alter table queue add column ended_no bigint;
create sequence queue_ended_no;

-- What ended before there were numbers: in the order of its dates.
update queue set ended_no = ranked.n
from (select run, row_number() over (order by ended_at, run) as n from queue where ended) ranked
where ranked.run = queue.run;
select setval('queue_ended_no', greatest(count(*), 1), count(*) > 0) from queue where ended;

-- Numbered while its transaction commits, one at a time: so numbers are seen in their order, and whoever saw one will never see a smaller one come. And not
-- before that: somebody who is stopped in the middle of his transaction holds up nobody.
create function queue_end_is_numbered() returns trigger language plpgsql as $$
begin
    perform pg_catalog.pg_advisory_xact_lock(1818390369, tg_relid::int4);
    update queue set ended_no = pg_catalog.nextval('queue_ended_no') where run = new.run;
    return null;
end
$$;

create constraint trigger queue_end_is_numbered after update of ended on queue deferrable initially deferred for each row
when (new.ended and not old.ended) execute function queue_end_is_numbered();

-- As an import writes it, which lets in nobody else meanwhile.
create function queue_ended_is_numbered() returns trigger language plpgsql as $$
begin
    new.ended_no := pg_catalog.nextval('queue_ended_no');
    return new;
end
$$;

create trigger queue_ended_is_numbered before insert on queue for each row
when (new.ended) execute function queue_ended_is_numbered();

drop index queue_ended;
create unique index queue_undone on queue (ended_no) where how in ('unproven', 'broke', 'abandoned', 'missed');
