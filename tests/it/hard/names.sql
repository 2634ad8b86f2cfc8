-- Names that have to be quoted, in every kind of object that a sloppy program would build SQL for.
create role "O'Neil ""x""
$1 %s \ 🚤";
create role "ROLE";
create role renamed_later;
create schema " leading";
create schema "שלום";
create schema "a.b";
create table " leading"."table" ("select" int primary key, "SELECT" text, " %s$1" text, "שם" text, "back\slash" text, "new
line" text, "'" text, """" int);
insert into " leading"."table" values (1, 'S', 'percent', 'rtl', 'back', 'line', 'quote', 2);
create index "idx ""q"" $$ % \ ' 🚤" on " leading"."table" ("שם");
alter table " leading"."table" add constraint "chk on 'x'.""y""" check ("""" > 0);
create table "שלום"."Ab" (a int);
create table "שלום"."aB" (a int);
insert into "שלום"."Ab" values (1);
insert into "שלום"."aB" values (2);
create table "a.b"."c.d on table x" (i int);
insert into "a.b"."c.d on table x" values (3);
create table "a.b".abcdefghijklmnopqrstuvwxyzabcdefghijklmnopqrstuvwxyzabcdefghijk (
  abcdefghijklmnopqrstuvwxyzabcdefghijklmnopqrstuvwxyzabcdefghijk int);
insert into "a.b".abcdefghijklmnopqrstuvwxyzabcdefghijklmnopqrstuvwxyzabcdefghijk values (4);
create table "a.b"."éééééééééééééééééééééééééééééée" (i int);
create sequence "שלום"."seq '%' ""
$" start 5;
select nextval('"שלום"."seq ''%'' ""
$"');
create type "שלום"."ty""pe" as enum ('', ' ', 'a''b', 'c\d', '"', ',', '{}', '🚤');
create function "שלום"."f""n $1 %"("arg one" int, inout "b""" int) language sql as $$ select $1 $$;
create publication "pub '""% 🚤" for table " leading"."table";
create view "a.b"."view
""" as select "select" as "$1", "SELECT" as "%" from " leading"."table";
create trigger "trg ""
%" before insert on " leading"."table" for each row execute function suppress_redundant_updates_trigger();
drop trigger "trg ""
%" on " leading"."table";
create trigger "trg ""
%" before update on " leading"."table" for each row execute function suppress_redundant_updates_trigger();
create policy "pol ""%" on "a.b"."c.d on table x" to "O'Neil ""x""
$1 %s \ 🚤" using (i > 0);
grant select ("select") on " leading"."table" to "O'Neil ""x""
$1 %s \ 🚤";
grant usage on schema "a.b" to "ROLE";
comment on column " leading"."table"."new
line" is E'a comment ''with'' "quotes"\nand \\ lines';
alter table "שלום"."aB" owner to renamed_later;
alter role renamed_later rename to "Renamed";
