//! The other half of a receiver: what has come is sealed and stored, one after the other, and only then told to be durable.

use std::time::Duration;

use bytes::Bytes;
use jiff::Timestamp;
use tokio::sync::{mpsc, watch};

use crate::backup::wal::scan;
use crate::domain::check::Broke;
use crate::domain::lsn::Lsn;
use crate::domain::wal::{Piece, Segment, WalName};
use crate::seal::{Placed, SealError, WalFile, WalSealer};

/// Pieces of one segment, before they are replaced by one: what a restore has to fetch stays small.
const PIECES: usize = 64;
/// Between two tries, when the store does not take anything.
const RETRY: [Duration; 4] =
    [Duration::from_secs(1), Duration::from_secs(3), Duration::from_secs(10), Duration::from_secs(30)];

/// Something to be sealed.
pub(super) struct Job {
    /// Of which segment.
    pub segment: Segment,
    /// The segment from its beginning, as far as it has come.
    pub bytes: Bytes,
    /// How much of it is durable already, in pieces.
    pub from: u32,
    /// Whether it is all of it.
    pub whole: bool,
    /// With this, everything is here that had been committed by then (by the source's clock).
    pub covered: Option<Timestamp>,
}

/// How far it is.
#[derive(Clone, Debug, Default)]
pub(super) struct Durable {
    /// Everything before this place is durable.
    pub until: Option<Lsn>,
    /// And so is everything that had been committed by then.
    pub covered: Option<Timestamp>,
    /// Why nothing gets through at the moment.
    pub trouble: Option<Broke>,
    /// Why nothing ever will.
    pub refused: Option<Broke>,
}

/// What seals.
pub(super) struct Sealing {
    pub sealer: WalSealer,
    pub system_identifier: String,
    /// Pieces of the segment that is received now.
    pub pieces: Vec<Piece>,
}

impl Sealing {
    /// Until nobody sends anything more.
    pub async fn run(mut self, mut jobs: mpsc::Receiver<Job>, durable: watch::Sender<Durable>) {
        while let Some(job) = jobs.recv().await {
            let mut tries = 0;
            loop {
                match self.seal(&job).await {
                    Ok(until) => {
                        durable.send_modify(|durable| {
                            durable.until = durable.until.max(Some(until));
                            durable.covered = durable.covered.max(job.covered);
                            durable.trouble = None;
                        });
                        break;
                    }
                    Err(Refusal::ForGood(broke)) => {
                        durable.send_modify(|durable| durable.refused = Some(broke));
                        return;
                    }
                    Err(Refusal::ForNow(broke)) => {
                        durable.send_modify(|durable| durable.trouble = Some(broke));
                        tokio::time::sleep(RETRY[tries.min(RETRY.len() - 1)]).await;
                        tries += 1;
                    }
                }
                if durable.is_closed() {
                    return;
                }
            }
        }
    }

    /// Seals one, and takes away what it makes superfluous.
    async fn seal(&mut self, job: &Job) -> Result<Lsn, Refusal> {
        let refused = |why: String| Refusal::ForGood(Broke::new(why));
        let (header, contents) = scan(&job.bytes).map_err(|error| refused(format!("{}: {error}", job.segment)))?;
        if header.system_identifier.to_string() != self.system_identifier {
            return Err(refused(format!("{} is of another cluster than the server says that it is", job.segment)));
        }
        if job.segment.start(header.segment_bytes) != Some(header.start) {
            return Err(refused(format!(
                "what came as {} says inside that it begins at {}",
                job.segment, header.start
            )));
        }
        self.pieces.retain(|piece| piece.segment == job.segment);
        let to = u32::try_from(job.bytes.len()).unwrap_or(u32::MAX);
        let from = if self.pieces.len() >= PIECES { 0 } else { job.from };
        let (name, bytes) = if job.whole {
            (WalName::Segment(job.segment), job.bytes.clone())
        } else {
            (WalName::Piece(Piece { segment: job.segment, from, to }), job.bytes.slice(from as usize..))
        };
        let system_identifier = Some(self.system_identifier.clone());
        let file = WalFile { name, system_identifier, contents: Some(contents), bytes };
        match self.sealer.put(&file, crate::clock::now()).await {
            Ok(Placed::Stored(_) | Placed::Already(_)) => {}
            Ok(Placed::Differs(record)) => {
                return Err(Refusal::ForGood(Broke::hinted(
                    format!("{name} is in the store already, with other bytes, sealed at {}", record.sealed_at),
                    "do two servers write under one policy, or was this one restored without a new timeline? Give each a policy of its own",
                )));
            }
            Err(error @ (SealError::Key(_) | SealError::Refused(_))) => return Err(Refusal::ForGood(error.into())),
            Err(error) => return Err(Refusal::ForNow(error.into())),
        }
        if job.whole || from == 0 {
            for piece in std::mem::take(&mut self.pieces) {
                // What stays is only superfluous: a locked store may not let it go.
                if let Err(error) = self.sealer.remove(WalName::Piece(piece)).await {
                    tracing::warn!(%error, "a piece of the log that is not needed any more could not be taken away");
                }
            }
        }
        if let WalName::Piece(piece) = name {
            self.pieces.push(piece);
        }
        Ok(Lsn(header.start.0 + u64::from(to)))
    }
}

enum Refusal {
    ForNow(Broke),
    ForGood(Broke),
}
