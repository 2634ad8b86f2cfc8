-- What the stores could bring back, and when they came to: the series from which exposure is told. Rows are only ever added.
-- Times are microseconds since 1970 in UTC; `at` is by the runner's clock, `covered` by the source's. `until` is a place in the log.
create table coverage (
    policy  text not null,
    at      integer not null,
    covered integer not null,
    until   text,
    primary key (policy, at)
) without rowid;

create trigger coverage_is_never_changed before update on coverage
begin
    select raise(abort, 'the catalog is append-only: what was covered is never changed');
end;

create trigger coverage_is_never_removed before delete on coverage
begin
    select raise(abort, 'the catalog is append-only: what was covered is never removed');
end;
