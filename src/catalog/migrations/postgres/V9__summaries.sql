-- Drills in little: transcripts are large, and where a policy stands is judged by a thousand of them.

-- A transcript's own words, and none of its evidence.
create view drill_summarized as
select seq, policy, jsonb_build_object(
    'run', body #> '{drilled,run}',
    'drill', body #> '{drilled,drill,name}',
    'from', body #> '{drilled,drill,from}',
    'sabotages', jsonb_path_exists(body, '$.drilled.drill.steps[*].sabotage'),
    'started_at', body #> '{drilled,started_at}',
    'finished_at', body #> '{drilled,finished_at}',
    'judgement', body #> '{drilled,judgement}',
    'environment', body #> '{drilled,environment}',
    'red', jsonb_path_query_array(body, '$.drilled.checks[*] ? (exists (@.outcome.failed)).name'),
    'dark', jsonb_path_query_array(body, '$.drilled.checks[*] ? (!exists (@.outcome.failed) && !exists (@ ? (@.outcome == "passed"))).name')
) as summary
from event
where kind = 'drilled';

create table drill_summary (
    seq     bigint primary key,
    policy  text collate "C" not null,
    summary jsonb not null
);

insert into drill_summary (seq, policy, summary) select seq, policy, summary from drill_summarized;

create index drill_summary_of_policy on drill_summary (policy, seq);

-- Whoever writes an event, and whatever the search path is then.
create function drill_is_summarized() returns trigger language plpgsql set search_path from current as $$
begin
    insert into drill_summary (seq, policy, summary) select seq, policy, summary from drill_summarized where seq = new.seq;
    return null;
end
$$;

create trigger drill_is_summarized after insert on event for each row when (new.kind = 'drilled') execute function drill_is_summarized();

create trigger drill_summary_is_never_changed before update or delete on drill_summary for each row execute function append_only();
create trigger drill_summary_is_never_emptied before truncate on drill_summary for each statement execute function append_only();
