//! A mistake, and the second before it: the log is received while somebody deletes what must not be deleted.

use std::time::{Duration, Instant};

use jiff::Timestamp;

use super::source::Source;
use super::story::Story;
use super::{shop, spell};
use crate::cli::Failure;
use crate::cli::find as find_verb;
use crate::domain::check::Broke;
use crate::domain::policy::{Policy, WalPlan};
use crate::domain::units::Span;
use crate::engine::find::{self, Asked, Ending, Trouble};
use crate::engine::{self, House};
use crate::judge::wal::Follow;
use crate::probe::endpoint::root_cause;
use crate::probe::heartbeat::TABLE;
use crate::progress::Silent;

const MISTAKE: &str = "delete from shop.line_item where product = 'product 7'";
const QUESTION: &str = "select count(*) > 0 from shop.line_item where product = 'product 7'";
/// How long the receiver may take until what was committed is durable.
const DURABLE_WITHIN: Duration = Duration::from_secs(30);

/// Makes the mistake, and looks for the second before it; whether it was found.
pub async fn undo(house: &House, policy: &Policy, source: &Source, story: &Story) -> Result<bool, Failure> {
    let wal = WalPlan {
        stream: true,
        lag: Some(Span::from_millis(200)),
        heartbeat: Some(Span::from_secs(1)),
        spool: None,
        keep: None,
    };
    let policy = Policy { wal: Some(wal), ..policy.clone() };
    let receiving = engine::wal::stream(house, &policy, true, &Silent);
    let made_at = tokio::select! {
        ended = receiving => return Err(ended.err().unwrap_or_else(|| Broke::new("the receiver ended")).into()),
        made = make(source) => made?,
    };
    story.say(&format!("{MISTAKE}   ({made_at}, without a word to anybody)"));
    let began = Instant::now();
    let request = find_verb::request(house, &policy)?;
    let asked = Asked { sql: QUESTION.to_owned(), database: None, since: None, before: None, follow: Follow::Latest };
    let found = find::run(house, &policy, &request, &asked, &Silent).await.map_err(|trouble| match trouble {
        Trouble::Misasked(broke) => Failure::from(broke),
        Trouble::Stop(stop) => find_verb::stopped(stop),
    })?;
    for line in find_verb::told(&found).lines().filter(|line| !line.is_empty()) {
        story.say(line.trim_end());
    }
    let Ending::Between { holds_at, gone_at, .. } = &found.ending else {
        story.say("NOT FOUND: the rows were said to be there all the time, or never");
        return Ok(false);
    };
    let right = *holds_at <= made_at && made_at < *gone_at;
    story.say(&format!(
        "{} in {}",
        if right { "that is the second before the mistake: found" } else { "THAT IS NOT WHEN IT HAPPENED" },
        spell(began.elapsed())
    ));
    Ok(right)
}

/// Waits for the receiver, lets a few seconds go by, makes the mistake, and waits until what followed it is durable. When it was made.
async fn make(source: &Source) -> Result<Timestamp, Broke> {
    let broke =
        |error: tokio_postgres::Error| Broke::new(format!("the mistake could not be made: {}", root_cause(&error)));
    let client = source.endpoint(shop::DATABASE).connect().await?;
    client.batch_execute(TABLE).await.map_err(broke)?;
    let received = "select coalesce(bool_or(flush_lsn >= $1::text::pg_lsn), false) from pg_stat_replication \
                    where application_name = 'lifeboat' and state = 'streaming'";
    let durable = async |lsn: &str| {
        let began = Instant::now();
        loop {
            let row = client.query_one(received, &[&lsn]).await.map_err(broke)?;
            if row.get::<_, bool>(0) {
                return Ok(());
            }
            if began.elapsed() > DURABLE_WITHIN {
                return Err(Broke::new("the log was not durable in the store within half a minute"));
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    durable("0/0").await?;
    tokio::time::sleep(Duration::from_millis(2_700)).await;
    client.batch_execute(MISTAKE).await.map_err(broke)?;
    let clock = client.query_one("select (extract(epoch from clock_timestamp()) * 1000000)::int8", &[]).await;
    let made_at = Timestamp::from_microsecond(clock.map_err(broke)?.get(0));
    let made_at = made_at.map_err(|error| Broke::new(format!("the source's clock cannot be read: {error}")))?;
    tokio::time::sleep(Duration::from_millis(1_300)).await;
    let end = client.query_one("select pg_current_wal_flush_lsn()::text", &[]).await.map_err(broke)?;
    durable(end.get::<_, &str>(0)).await?;
    Ok(made_at)
}
