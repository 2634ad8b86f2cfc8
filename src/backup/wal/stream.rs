//! `START_REPLICATION` over the replication protocol: the log as a server writes it.
//!
//! Source: PostgreSQL's manual, "Streaming Replication Protocol"; the same from PostgreSQL 13 to 18.

use bytes::{Buf, BufMut, Bytes, BytesMut};
use jiff::{SignedDuration, Timestamp};
use postgres_protocol::message::frontend;

use super::scan::POSTGRES_EPOCH;
use crate::backup::wire::{Wire, garbled};
use crate::domain::check::Broke;
use crate::domain::lsn::Lsn;

/// Who answers, and where it stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    /// Of the cluster.
    pub system_identifier: String,
    /// Which timeline it writes.
    pub timeline: u32,
    /// How far its log is on its disk.
    pub flushed: Lsn,
}

/// What a server says while it sends its log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Said {
    /// A stretch of the log.
    Log {
        /// Where it begins.
        at: Lsn,
        /// How far the server's log was on its disk when it sent this.
        end: Lsn,
        /// When that was, by its clock.
        sent_at: Timestamp,
        /// The bytes.
        bytes: Bytes,
    },
    /// That it is there.
    Alive {
        /// How far its log was on its disk then.
        end: Lsn,
        /// When that was, by its clock.
        sent_at: Timestamp,
        /// Whether it wants to hear from us at once.
        wants_answer: bool,
    },
    /// Nothing more comes on this timeline. Where the next one begins; none: the server shuts down.
    Ended(Option<(u32, Lsn)>),
}

impl Wire {
    /// `IDENTIFY_SYSTEM`.
    pub async fn identify(&mut self) -> Result<Identity, Broke> {
        let rows = self.ask("IDENTIFY_SYSTEM").await?;
        let cell = |at: usize| rows.first().and_then(|row| row.get(at)).cloned().flatten();
        let text = |at: usize| cell(at).and_then(|bytes| String::from_utf8(bytes.to_vec()).ok());
        let identity = || {
            let (timeline, flushed) = (text(1)?.parse().ok()?, text(2)?.parse().ok()?);
            Some(Identity { system_identifier: text(0)?, timeline, flushed })
        };
        identity().ok_or_else(|| garbled("an identity that cannot be read"))
    }

    /// `TIMELINE_HISTORY`: the file as it is.
    pub async fn history(&mut self, timeline: u32) -> Result<Bytes, Broke> {
        let rows = self.ask(&format!("TIMELINE_HISTORY {timeline}")).await?;
        let content = rows.into_iter().next().and_then(|row| row.into_iter().nth(1)).flatten();
        content.ok_or_else(|| garbled("a history that cannot be read"))
    }

    /// Begins to receive from `at` on, under a slot. A server that has not kept so much says so in the first answer.
    pub async fn receive(&mut self, slot: &str, at: Lsn, timeline: u32) -> Result<(), Broke> {
        let command = format!("START_REPLICATION SLOT \"{slot}\" PHYSICAL {at} TIMELINE {timeline}");
        self.send(|out| frontend::query(&command, out)).await?;
        loop {
            match self.message().await?.0 {
                b'W' => return Ok(()),
                b'N' | b'S' => {}
                other => return Err(garbled(&format!("an answer of kind {}", other.escape_ascii()))),
            }
        }
    }

    /// What the server says next. May be dropped and called again: nothing is lost.
    pub async fn hear(&mut self) -> Result<Said, Broke> {
        loop {
            let (tag, body) = self.message().await?;
            match tag {
                b'd' => {
                    if let Some(said) = said(body)? {
                        return Ok(said);
                    }
                }
                b'c' => return self.end_of_timeline().await.map(Said::Ended),
                // It has sent all that it has, and goes.
                b'C' => return Ok(Said::Ended(None)),
                b'N' | b'S' => {}
                other => return Err(garbled(&format!("a message of kind {}", other.escape_ascii()))),
            }
        }
    }

    /// Tells the server how much is durable here: it keeps what lies behind that. `ask`: that it say at once where it stands.
    pub async fn tell(&mut self, durable: Lsn, now: Timestamp, ask: bool) -> Result<(), Broke> {
        let mut body = BytesMut::with_capacity(34);
        body.put_u8(b'r');
        // Written, flushed, applied: nothing counts as received before it is durable.
        (0..3).for_each(|_| body.put_u64(durable.0));
        let since = now.duration_since(Timestamp::UNIX_EPOCH).as_micros() - i128::from(POSTGRES_EPOCH) * 1_000_000;
        body.put_i64(i64::try_from(since).unwrap_or_default());
        body.put_u8(u8::from(ask));
        self.send(|out| {
            frontend::CopyData::new(body)?.write(out);
            Ok(())
        })
        .await
    }

    /// Ends the connection in good order, as far as that can be.
    pub async fn leave(mut self) {
        // The server notices a closed connection too.
        let _ = self
            .send(|out| {
                frontend::copy_done(out);
                frontend::terminate(out);
                Ok(())
            })
            .await;
    }

    async fn end_of_timeline(&mut self) -> Result<Option<(u32, Lsn)>, Broke> {
        self.send(|out| {
            frontend::copy_done(out);
            Ok(())
        })
        .await?;
        let rows = self.rows().await?;
        let next = |row: &Vec<Option<Bytes>>| {
            let text = |at: usize| std::str::from_utf8(row.get(at)?.as_ref()?).ok();
            Some((text(0)?.parse().ok()?, text(1)?.parse().ok()?))
        };
        rows.first().map(|row| next(row).ok_or_else(|| garbled("an end of a timeline that cannot be read"))).transpose()
    }

    async fn ask(&mut self, command: &str) -> Result<Vec<Vec<Option<Bytes>>>, Broke> {
        self.send(|out| frontend::query(command, out)).await?;
        self.rows().await
    }

    /// Rows until the server is ready again.
    async fn rows(&mut self) -> Result<Vec<Vec<Option<Bytes>>>, Broke> {
        let mut rows = Vec::new();
        loop {
            match self.message().await? {
                (b'D', body) => rows.push(columns(body)?),
                (b'Z', _) => return Ok(rows),
                _ => {}
            }
        }
    }
}

fn columns(mut row: Bytes) -> Result<Vec<Option<Bytes>>, Broke> {
    let wrong = || garbled("a row that cannot be read");
    let count = row.try_get_u16().map_err(|_| wrong())?;
    let column = |_| {
        let length = row.try_get_i32().map_err(|_| wrong())?;
        let Ok(length) = usize::try_from(length) else { return Ok(None) };
        if row.len() < length { Err(wrong()) } else { Ok(Some(row.split_to(length))) }
    };
    (0..count).map(column).collect()
}

fn said(mut body: Bytes) -> Result<Option<Said>, Broke> {
    let short = |_| garbled("a piece of the log that is too short");
    let lsn = |body: &mut Bytes| body.try_get_u64().map(Lsn).map_err(short);
    let time = |body: &mut Bytes| body.try_get_i64().map_err(short).and_then(moment);
    match body.try_get_u8().map_err(short)? {
        b'w' => {
            let (at, end, sent_at) = (lsn(&mut body)?, lsn(&mut body)?, time(&mut body)?);
            if at.0.checked_add(body.len() as u64).is_none() {
                return Err(garbled("a piece of the log that ends nowhere"));
            }
            Ok(Some(Said::Log { at, end, sent_at, bytes: body }))
        }
        b'k' => {
            let (end, sent_at) = (lsn(&mut body)?, time(&mut body)?);
            Ok(Some(Said::Alive { end, sent_at, wants_answer: body.try_get_u8().map_err(short)? != 0 }))
        }
        // Later versions may say more.
        _ => Ok(None),
    }
}

fn moment(microseconds: i64) -> Result<Timestamp, Broke> {
    let since = SignedDuration::from_micros(microseconds).checked_add(SignedDuration::from_secs(POSTGRES_EPOCH));
    let at = since.and_then(|since| Timestamp::UNIX_EPOCH.checked_add(since).ok());
    at.ok_or_else(|| garbled("a time that cannot be read"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_server_sends_is_read_whole_or_refused() {
        let mut log = BytesMut::new();
        log.put_u8(b'w');
        log.put_u64(0x0100_0000);
        log.put_u64(0x0100_0009);
        log.put_i64(5_000_000);
        log.put_slice(b"abc");
        let sent_at = Timestamp::from_second(POSTGRES_EPOCH + 5).unwrap();
        let expected = Said::Log { at: Lsn(0x0100_0000), end: Lsn(0x0100_0009), sent_at, bytes: "abc".into() };
        assert_eq!(said(log.clone().freeze()).unwrap(), Some(expected));
        let mut alive = BytesMut::new();
        alive.put_u8(b'k');
        alive.put_u64(7);
        alive.put_i64(5_000_000);
        alive.put_u8(1);
        let expected = Said::Alive { end: Lsn(7), sent_at, wants_answer: true };
        assert_eq!(said(alive.clone().freeze()).unwrap(), Some(expected));
        for cut in 0..25 {
            assert!(said(log.clone().freeze().slice(..cut)).is_err(), "{cut}");
        }
        for cut in 0..18 {
            assert!(said(alive.clone().freeze().slice(..cut)).is_err(), "{cut}");
        }
        assert_eq!(said(Bytes::from_static(b"x whatever")).unwrap(), None);
        let mut nowhere = log.clone();
        nowhere[1..9].fill(0xFF);
        assert!(said(nowhere.freeze()).is_err());
        let mut never = log;
        never[17] = 0x7F;
        assert!(said(never.freeze()).is_err());
    }

    #[test]
    fn rows_are_cut_into_columns() {
        let row = Bytes::from_static(b"\0\x03\0\0\0\x01a\xff\xff\xff\xff\0\0\0\0");
        assert_eq!(columns(row).unwrap(), [Some(Bytes::from_static(b"a")), None, Some(Bytes::new())]);
        for bad in [b"".as_slice(), b"\0\x01", b"\0\x01\0\0\0\x09a"] {
            assert!(columns(Bytes::copy_from_slice(bad)).is_err());
        }
    }
}
