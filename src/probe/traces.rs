//! Traces of writing in the heaps of a restored physical copy, dead rows too.
//!
//! A query sees only the rows that are there. Whether a table lost rows *because the source deleted them while it was being backed up*, or
//! because the copy is bad, shows in the dead ones: their pages are read as they are on disk, through the server (which takes a superuser).

use std::collections::BTreeMap;
use std::pin::pin;

use futures_util::TryStreamExt;
use tokio_postgres::Client;

use super::ProbeError;
use super::session::run;
use crate::domain::inventory::Snapshot;
use crate::domain::lsn::Lsn;

/// Row versions of one table, dead ones too, by who made or ended them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Traces {
    /// Transactions that were not over at the source's snapshot, before the restored server's first.
    pub meanwhile: u64,
    /// The restored server's own.
    pub own: u64,
}

/// The transactions that are told apart.
#[derive(Clone, Copy, Debug)]
struct Window {
    from: u64,
    own_from: u64,
}

/// Looks at all pages that were written at `from` in the log or later: users' tables by name, and `pg_catalog.pg_largeobject`. Tables
/// without a trace are not in it.
///
/// To be asked before anything else reads the tables: whoever scans a page may clear dead rows away. What an earlier check
/// or vacuum cleared is not seen any more; then a difference counts as a finding, which may be too strict and is never too lenient.
pub async fn traces(
    client: &Client,
    from: Lsn,
    snapshot: &Snapshot,
    own_from: u64,
) -> Result<BTreeMap<String, Traces>, ProbeError> {
    let doing = "reading the pages that were written last";
    // What the restored server has changed is in its memory still.
    run(client, doing, "checkpoint").await?;
    // The first eight bytes of a page are its LSN: two 32-bit numbers, little-endian on every machine that PostgreSQL is packaged for.
    // On another, too many or too few pages would be looked at: traces may be missed, a digest never becomes equal by it.
    let sql = format!(
        "with heap as (select quote_ident(n.nspname) || '.' || quote_ident(c.relname) as name, pg_relation_filepath(c.oid) as path,
                              coalesce(pg_relation_size(c.oid), 0) / page as blocks, page, per_file
                         from pg_class c join pg_namespace n on n.oid = c.relnamespace,
                              (select current_setting('block_size')::int8 as page,
                                      (select setting::int8 from pg_settings where name = 'segment_size') as per_file) sizes
                        where c.relkind in ('r', 'm') and c.relpersistence = 'p'
                          and (c.oid >= 16384 or c.oid = 'pg_catalog.pg_largeobject'::regclass)),
              page as (select name, page, path || case when b / per_file = 0 then '' else '.' || b / per_file end as file,
                              (b % per_file) * page as at
                         from heap, generate_series(0, blocks - 1) b),
              head as (select page.*, pg_read_binary_file(file, at, 8, true) as h from page offset 0)
         select name, pg_read_binary_file(file, at, page, true) as bytes from head
          where length(h) = 8 and
                ((get_byte(h, 3)::int8 << 56) | (get_byte(h, 2)::int8 << 48) | (get_byte(h, 1)::int8 << 40) | (get_byte(h, 0)::int8 << 32)
                 | (get_byte(h, 7)::int8 << 24) | (get_byte(h, 6)::int8 << 16) | (get_byte(h, 5)::int8 << 8) | get_byte(h, 4)::int8) >= {}",
        from.0.min(i64::MAX.unsigned_abs())
    );
    let window = Window { from: snapshot.xmin, own_from };
    let failed = |error: tokio_postgres::Error| ProbeError::sql(doing, &error);
    let none: [&str; 0] = [];
    let mut pages = pin!(client.query_raw(&sql, none).await.map_err(failed)?);
    let mut found: BTreeMap<String, Traces> = BTreeMap::new();
    while let Some(row) = pages.try_next().await.map_err(failed)? {
        let (name, bytes): (&str, Option<&[u8]>) =
            (row.try_get("name").map_err(failed)?, row.try_get("bytes").map_err(failed)?);
        let seen = look(bytes.unwrap_or_default(), window);
        if seen != Traces::default() {
            let all = found.entry(name.to_owned()).or_default();
            all.meanwhile += seen.meanwhile;
            all.own += seen.own;
        }
    }
    Ok(found)
}

/// Reads a heap page (`src/include/storage/bufpage.h`, `itemid.h`, `access/htup_details.h`). A page that makes no sense has no traces: that it
/// is damaged is for other checks to say.
fn look(page: &[u8], window: Window) -> Traces {
    const HEADER: usize = 24;
    const NORMAL: u32 = 1;
    const XMIN_FROZEN: u16 = 0x0300;
    const XMAX_INVALID: u16 = 0x0800;
    const XMAX_LOCK_ONLY: u16 = 0x0080;
    const XMAX_IS_MULTI: u16 = 0x1000;
    let half = |at: usize| page.get(at..at + 2).and_then(|bytes| bytes.try_into().ok()).map_or(0, u16::from_le_bytes);
    let word = |at: usize| page.get(at..at + 4).and_then(|bytes| bytes.try_into().ok()).map_or(0, u32::from_le_bytes);
    let mut traces = Traces::default();
    let lower = usize::from(half(12)).min(page.len());
    for item in (HEADER..lower.saturating_sub(3)).step_by(4).map(word) {
        let offset = (item & 0x7FFF) as usize;
        if (item >> 15) & 3 != NORMAL || offset + 23 > page.len() {
            continue;
        }
        let flags = half(offset + 20);
        let made = (flags & XMIN_FROZEN != XMIN_FROZEN).then(|| word(offset));
        // A row that was only locked has not ended. Several lockers and an update share a number that is not a transaction's: such
        // rows are rare, and leaving them out only makes the judgement stricter.
        let ended = (flags & (XMAX_INVALID | XMAX_LOCK_ONLY | XMAX_IS_MULTI) == 0).then(|| word(offset + 4));
        let (mut meanwhile, mut own) = (false, false);
        for xid in [made, ended].into_iter().flatten().filter(|xid| *xid >= 3) {
            own |= window.is_own(xid);
            meanwhile |= window.is_meanwhile(xid);
        }
        traces.own += u64::from(own);
        traces.meanwhile += u64::from(meanwhile);
    }
    traces
}

impl Window {
    /// Only the lower 32 bits are in a row, and the counter goes round: distances are compared.
    fn is_meanwhile(self, xid: u32) -> bool {
        u64::from(xid.wrapping_sub(low(self.from))) < self.own_from.saturating_sub(self.from)
    }

    fn is_own(self, xid: u32) -> bool {
        xid.wrapping_sub(low(self.own_from)) < 1 << 31
    }
}

fn low(xid: u64) -> u32 {
    // Truncation is meant.
    (xid & 0xFFFF_FFFF) as u32
}

#[cfg(test)]
mod tests {
    use super::*;

    fn page(rows: &[(u32, u32, u16)]) -> Vec<u8> {
        let mut page = vec![0_u8; 8192];
        let lower = (24 + 4 * rows.len()) as u16;
        page[12..14].copy_from_slice(&lower.to_le_bytes());
        for (at, (xmin, xmax, flags)) in rows.iter().enumerate() {
            let offset = 8192 - 32 * (at + 1);
            let item = offset as u32 | 1 << 15 | 28 << 17;
            page[24 + 4 * at..28 + 4 * at].copy_from_slice(&item.to_le_bytes());
            page[offset..offset + 4].copy_from_slice(&xmin.to_le_bytes());
            page[offset + 4..offset + 8].copy_from_slice(&xmax.to_le_bytes());
            page[offset + 20..offset + 22].copy_from_slice(&flags.to_le_bytes());
        }
        page
    }

    #[test]
    fn dead_rows_tell_who_ended_them() {
        let window = Window { from: 1000, own_from: 1010 };
        for (row, meanwhile, own) in [
            ((900, 0, 0x0800), 0, 0),
            ((900, 950, 0), 0, 0),       // ended before
            ((900, 1000, 0), 1, 0),      // deleted meanwhile
            ((1009, 0, 0x0800), 1, 0),   // inserted meanwhile
            ((900, 1010, 0), 0, 1),      // deleted by the copy itself
            ((1011, 0, 0x0800), 0, 1),   // inserted by it
            ((1005, 1012, 0), 1, 1),     // both
            ((900, 1005, 0x0800), 0, 0), // the deletion was rolled back
            ((900, 1005, 0x0080), 0, 0), // only locked
            ((1005, 0, 0x0B00), 0, 0),   // frozen: its number means nothing
            ((2, 0, 0x0800), 0, 0),
        ] {
            assert_eq!(look(&page(&[row]), window), Traces { meanwhile, own }, "{row:?}");
        }
        assert_eq!(look(&page(&[(900, 1000, 0), (900, 1001, 0)]), window).meanwhile, 2);
    }

    #[test]
    fn the_counter_goes_round() {
        let window = Window { from: 0x1_FFFF_FFF0, own_from: 0x2_0000_0010 };
        assert_eq!(look(&page(&[(0xFFFF_0000, 0xFFFF_FFF5, 0)]), window), Traces { meanwhile: 1, own: 0 });
        assert_eq!(look(&page(&[(0xFFFF_0000, 5, 0)]), window), Traces { meanwhile: 1, own: 0 });
        assert_eq!(look(&page(&[(0xFFFF_0000, 0x20, 0)]), window), Traces { meanwhile: 0, own: 1 });
        assert_eq!(look(&page(&[(0xFFFF_0000, 0xFFFF_0001, 0)]), window), Traces::default());
    }

    #[test]
    fn a_page_that_makes_no_sense_has_no_traces() {
        let window = Window { from: 1000, own_from: 1010 };
        for bytes in [vec![], vec![0xFF; 5], vec![0xFF; 8192], vec![0; 8192]] {
            let _ = look(&bytes, window);
        }
        assert_eq!(look(&[0; 8192], window), Traces::default());
    }
}
