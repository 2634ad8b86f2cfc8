//! A small database with a bit of everything that the checks look at.

use super::server::Server;

/// The database that tests back up.
pub const DATABASE: &str = "orders";

/// Roles, an extension, tables (one partitioned, one with odd names), indexes, constraints, a sequence, a view, a function,
/// a trigger, grants, a large object.
const SQL: &str = r#"
create role shop_owner;
create role shop_reader;
create role "odd ""role""" login connection limit 3;
grant shop_reader to "odd ""role""";
create extension if not exists pg_trgm;
create schema shop authorization shop_owner;
set role shop_owner;
create table shop.customer (id bigint generated always as identity primary key, name text not null, email text unique);
create table shop.orders (id bigint, placed date not null, total numeric(12,2) not null check (total >= 0), primary key (id, placed))
    partition by range (placed);
create table shop.orders_old partition of shop.orders for values from (minvalue) to ('2026-01-01');
create table shop.orders_new partition of shop.orders for values from ('2026-01-01') to (maxvalue);
create table shop."Odd ""name"" of a täble" ("a column" int primary key, "\ back" text);
create sequence shop.ticket start 100;
create view shop.totals as select placed, sum(total) as total from shop.orders group by placed;
create function shop.twice(n int) returns int language sql immutable as 'select n * 2';
create function shop.touch() returns trigger language plpgsql as $$ begin new.name := trim(new.name); return new; end $$;
create trigger touch before insert or update on shop.customer for each row execute function shop.touch();
create index customer_twice on shop.customer (shop.twice(id::int));
insert into shop.customer (name, email) select 'Customer ' || n, 'c' || n || '@example.com' from generate_series(1, 5000) n;
insert into shop.orders select n, date '2025-06-01' + n % 400, n % 1000 from generate_series(1, 20000) n;
insert into shop."Odd ""name"" of a täble" select n, repeat(E'\\ "', n % 5) from generate_series(1, 50) n;
select setval('shop.ticket', 4711);
grant usage on schema shop to shop_reader;
grant select on shop.customer, shop.totals to shop_reader;
reset role;
create index customer_name_trgm on shop.customer using gin (name gin_trgm_ops);
alter database orders set work_mem = '8MB';
select lo_from_bytea(0, decode(repeat('00ff', 5000), 'hex'));
analyze;
"#;

/// Makes it.
pub fn fill(server: &Server) {
    server.sql("postgres", &format!("create database {DATABASE}"));
    server.sql(DATABASE, SQL);
}
