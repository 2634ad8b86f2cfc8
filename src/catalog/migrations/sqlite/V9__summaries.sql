-- Drills in little: transcripts are large, and where a policy stands is judged by a thousand of them.

-- A transcript's own words, and none of its evidence. Paths lead from the whole body: an item of a list may be a bare word, which is no JSON by itself.
create view drill_summarized as
select seq, policy, json_object(
    'run', body ->> '$.drilled.run',
    'drill', body ->> '$.drilled.drill.name',
    'from', body ->> '$.drilled.drill.from',
    'sabotages', json(case when exists (
        select 1 from json_each(body, '$.drilled.drill.steps') step where json_type(body, step.fullkey || '.sabotage') is not null
    ) then 'true' else 'false' end),
    'started_at', body ->> '$.drilled.started_at',
    'finished_at', body ->> '$.drilled.finished_at',
    'judgement', body -> '$.drilled.judgement',
    'environment', body -> '$.drilled.environment',
    'red', json((
        select json_group_array(body ->> (one.fullkey || '.name')) from json_each(body, '$.drilled.checks') one
        where json_type(body, one.fullkey || '.outcome.failed') is not null
    )),
    'dark', json((
        select json_group_array(body ->> (one.fullkey || '.name')) from json_each(body, '$.drilled.checks') one
        where json_type(body, one.fullkey || '.outcome.failed') is null and body ->> (one.fullkey || '.outcome') is not 'passed'
    ))
) as summary
from event
where kind = 'drilled';

create table drill_summary (
    seq     integer primary key,
    policy  text not null,
    summary text not null
);

insert into drill_summary (seq, policy, summary) select seq, policy, summary from drill_summarized;

create index drill_summary_of_policy on drill_summary (policy, seq);

create trigger drill_is_summarized after insert on event
when new.kind = 'drilled'
begin
    insert into drill_summary (seq, policy, summary) select seq, policy, summary from drill_summarized where seq = new.seq;
end;

create trigger drill_summary_is_never_changed before update on drill_summary
begin
    select raise(abort, 'the catalog is append-only: a summary is never changed');
end;

create trigger drill_summary_is_never_removed before delete on drill_summary
begin
    select raise(abort, 'the catalog is append-only: a summary is never removed');
end;
