//! The demo's data: a shop, of about 200 MB, and the customers that use it while it is backed up.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::time::Duration;

use tokio::task::JoinHandle;

use crate::domain::check::Broke;
use crate::probe::Endpoint;
use crate::probe::endpoint::root_cause;

/// The database.
pub const DATABASE: &str = "shop";

/// Tables, a partitioned one among them, an extension, a view, a function, a trigger, roles, grants, a large object.
const SCHEMA: &str = "
create role shop_owner;
create role shop_clerk login;
create role shop_reader;
grant shop_reader to shop_clerk;
create extension if not exists pg_trgm;
create schema shop authorization shop_owner;
set role shop_owner;
create table shop.customer (
    id bigint generated always as identity primary key,
    name text not null,
    email text not null unique,
    joined timestamptz not null default now(),
    profile jsonb not null default '{}'
);
create table shop.orders (
    id bigint generated always as identity,
    customer bigint not null references shop.customer,
    placed timestamptz not null default clock_timestamp(),
    state text not null default 'new' check (state in ('new', 'paid', 'sent', 'returned')),
    total numeric(12,2) not null,
    primary key (id, placed)
) partition by range (placed);
create table shop.orders_2024 partition of shop.orders for values from ('2024-01-01') to ('2025-01-01');
create table shop.orders_2025 partition of shop.orders for values from ('2025-01-01') to ('2026-01-01');
create table shop.orders_later partition of shop.orders for values from ('2026-01-01') to (maxvalue);
create table shop.line_item (
    id bigint generated always as identity primary key,
    order_id bigint not null,
    product text not null,
    quantity int not null check (quantity > 0),
    price numeric(10,2) not null,
    note text
);
create index on shop.line_item (order_id);
create view shop.turnover as
    select date_trunc('month', placed) as month, sum(total) as total from shop.orders group by 1;
create function shop.touch() returns trigger language plpgsql as $$ begin new.state := lower(new.state); return new; end $$;
create trigger touch before insert or update on shop.orders for each row execute function shop.touch();
grant usage on schema shop to shop_reader;
grant select on all tables in schema shop to shop_reader;
grant insert on shop.orders, shop.line_item to shop_clerk;
reset role;
";

const DATA: [(&str, &str); 5] = [
    (
        "customers",
        "insert into shop.customer (name, email, joined, profile)
         select 'Customer ' || n, 'c' || n || '@example.com', timestamptz '2024-01-01' + n * interval '3 minutes',
                jsonb_build_object('tier', n % 5, 'tags', array['a' || n % 7, 'b' || n % 11])
         from generate_series(1, 100000) n",
    ),
    (
        "orders",
        "insert into shop.orders (customer, placed, state, total)
         select 1 + n % 100000, timestamptz '2024-01-01' + n * interval '2 minutes',
                (array['new', 'paid', 'sent', 'returned'])[1 + n % 4], (n % 100000) / 100.0
         from generate_series(1, 400000) n",
    ),
    (
        "line items",
        "insert into shop.line_item (order_id, product, quantity, price, note)
         select 1 + n % 400000, 'product ' || n % 5000, 1 + n % 9, (n % 9900) / 100.0 + 1, md5(n::text)
         from generate_series(1, 900000) n",
    ),
    ("names index", "create index customer_name_trgm on shop.customer using gin (name gin_trgm_ops)"),
    (
        "a large object",
        "select lo_from_bytea(0, decode(string_agg(md5(n::text), ''), 'hex')) from generate_series(1, 60000) n",
    ),
];

/// Makes the shop. Gives its size in bytes.
pub async fn fill(server: &Endpoint, say: &dyn Fn(&str)) -> Result<u64, Broke> {
    let broke =
        |error: tokio_postgres::Error| Broke::new(format!("the shop could not be filled: {}", root_cause(&error)));
    let client = server.with_database("postgres").connect().await?;
    client.batch_execute(&format!("create database {DATABASE}")).await.map_err(broke)?;
    let client = server.with_database(DATABASE).connect().await?;
    client.batch_execute(SCHEMA).await.map_err(broke)?;
    for (what, sql) in DATA {
        say(what);
        client.batch_execute(sql).await.map_err(broke)?;
    }
    client.batch_execute("vacuum analyze").await.map_err(broke)?;
    let row = client.query_one("select pg_database_size(current_database())", &[]).await.map_err(broke)?;
    Ok(row.get::<_, i64>(0).unsigned_abs())
}

/// Customers who order all the time, one transaction after the other.
pub struct Customers {
    open: Arc<AtomicBool>,
    acknowledged: Arc<AtomicI64>,
    task: JoinHandle<()>,
}

impl Customers {
    /// Lets them in.
    pub async fn arrive(server: &Endpoint) -> Result<Customers, Broke> {
        let client = server.with_database(DATABASE).connect().await?;
        let (open, acknowledged) = (Arc::new(AtomicBool::new(true)), Arc::new(AtomicI64::new(0)));
        let (still_open, count) = (Arc::clone(&open), Arc::clone(&acknowledged));
        let task = tokio::spawn(async move {
            while still_open.load(Ordering::Relaxed) {
                let order = "with o as (insert into shop.orders (customer, total) values (1 + (random() * 99999)::int, 42) returning id)
                             insert into shop.line_item (order_id, product, quantity, price) select id, 'demo', 1, 42 from o";
                if client.batch_execute(order).await.is_err() {
                    break;
                }
                count.fetch_add(1, Ordering::Relaxed);
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        });
        Ok(Customers { open, acknowledged, task })
    }

    /// They are sent away (or the shop is lost under them); how many orders the server had acknowledged.
    pub async fn leave(self) -> i64 {
        self.open.store(false, Ordering::Relaxed);
        // A task that ended early counted what it saw.
        let _ = self.task.await;
        self.acknowledged.load(Ordering::Relaxed)
    }
}
