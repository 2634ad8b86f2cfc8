-- Values that a text form, a sum or a careless comparison would lose.
create schema v;
create extension citext;
create table v.floats (id int primary key, f8 float8, f4 float4, n numeric);
insert into v.floats values (1, 'NaN', 'NaN', 'NaN'), (2, 'Infinity', '-Infinity', 'Infinity'), (3, '-0', '-0', '-0'), (4, '0', '0', '0'),
  (5, 5e-324, 1.4e-45, 1e-1000), (6, 1.7976931348623157e308, 3.4028235e38, 1e1000), (7, 0.1, 0.1, 0.10), (8, null, null, '1.000000'), (9, 1e22, 16777217, '-Infinity');
create table v.times (id int primary key, d date, t timestamp, tz timestamptz, ti time, tt timetz, i interval);
insert into v.times values (1, '4713-01-01 BC', '4713-01-01 00:00:00 BC', '4713-01-01 00:00:00+00 BC', '24:00', '24:00-15:59', '178000000 years'),
  (2, 'infinity', 'infinity', 'infinity', '00:00:00.000001', '00:00+15:59', '-178000000 years -11 mons 3 days -04:05:06.789'),
  (3, '-infinity', '-infinity', '-infinity', null, null, '1 day'), (4, '5874897-12-31', '294276-12-31 23:59:59.999999', '294276-12-31 23:59:59.999999+00', null, null, '24:00:00'),
  (5, '0001-12-31 BC', null, null, null, null, '1 mon -30 days');
create table v.arrays (id int primary key, a int[], b text[], c int[][], d float8[]);
insert into v.arrays values (1, '[-3:-1]={1,2,3}', '{NULL,"NULL","","a,b","\"","\\"}', '{{1,2},{3,4}}', '{NaN,-0,Infinity}'),
  (2, '{}', '{}', '[0:1][5:6]={{1,2},{3,NULL}}', null), (3, '[1:3]={1,2,3}', null, '{}', null), (4, '{1,2,3}', null, null, null);
create table v.documents (id int primary key, j json, b jsonb, x xml, ts tsvector, tq tsquery, h k2.hstore, ci citext, lt ltree, jp jsonpath, q int4range, mq nummultirange);
insert into v.documents values (1, '{"a":1, "a" :2 }', '{"b": 1e400, "a": "\u20ac", "n": null}', '<a>&#x20AC;<!-- c --></a>', 'a:1A b:2,3', '!a & (b | c:*)', '"k"=>NULL, ""=>""', 'MiXed', 'Top.Sub_1', '$.a[*] ? (@ > 1)', '[1,5]', '{(,1),[5,)}'),
  (2, 'null', 'null', 'text only', '', 'a <2> b', '', '', '', '$', 'empty', '{}'), (3, null, '[]', '<?xml version="1.0"?><b/>', null, null, null, null, null, null, '(,)', null);
create table v.others (id int primary key, c char(5), "char" "char", u uuid, ne inet, ci cidr, m macaddr8, mo money, bi bit(9), vb bit varying, p point, po polygon, li line, pl pg_lsn, x xid8, s pg_snapshot, o oid, rc regclass, na name, ar int[] , iv int2vector);
insert into v.others values (1, 'a  ', 'x', '00000000-0000-0000-0000-000000000001', '::1/64', '10/8', '08:00:2b:01:02:03:04:05', -12.34, B'101010101', B'', '(-0,NaN)', '((0,0),(1,1),(1,0))', '{1,2,3}', '16/B374D848', '18446744073709551615', '10:20:10,14', 4294967295, 'r.base', 'name', '{1}', '1 2 3'),
  (2, '', '', null, '192.168.0.1', null, null, null, null, null, null, null, null, null, null, null, null, null, '', null, '');
create table v.texts (id int primary key, t text);
insert into v.texts values (1, ''), (2, null), (3, E'\\N'), (4, E'\\.'), (5, E'a\tb\r\nc\\'), (6, U&'e\0301'), (7, U&'\00E9'), (8, E'\x01\x7f'), (9, '🚤' || U&'\FEFF\202E\200B'), (10, ' trailing '), (11, repeat('x', 3000000)), (12, '"'), (13, '(,)'), (14, '"",');
create table v.bytes (id int primary key, b bytea);
insert into v.bytes values (1, ''), (2, '\x00'), (3, null), (4, '\x5c2e0a'), (5, decode(repeat('00ff5c0a', 1000), 'hex'));
insert into v.bytes select 6, decode(repeat('00ff5c0a', 5 * 1024 * 1024), 'hex');
create table v.doubles (a int, b text);
insert into v.doubles values (1, 'x'), (1, 'x'), (1, null), (null, null), (null, null), (null, '');
select lo_from_bytea(90001, 'one'), lo_from_bytea(90002, ''), lo_create(90003);
select lo_put(90003, 100000, 'after a hole');
grant select on large object 90001 to r_reader;
grant select, update on large object 90002 to public;
alter large object 90002 owner to r_owner;
comment on large object 90001 is 'commented';
