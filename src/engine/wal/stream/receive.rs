//! The receiver itself: bytes come, are cut into segments, and go to be sealed; the server hears what is durable.

use std::time::{Duration, Instant};

use jiff::Timestamp;
use tokio::sync::{mpsc, watch};
use tokio_postgres::Client;

use super::begin::{Ground, Means, There, backups};
use super::sealing::{Durable, Job};
use crate::backup::wal::{Identity, Said};
use crate::backup::wire::Wire;
use crate::clock::now;
use crate::domain::check::Broke;
use crate::domain::exposure::Covered;
use crate::domain::lsn::Lsn;
use crate::domain::units::{ByteSize, Span};
use crate::domain::wal::{Piece, Segment};
use crate::engine::{House, interrupt};
use crate::judge::stream::Place;
use crate::progress::Progress;

/// After the process was asked to stop, what has come is given so long to become durable.
pub(super) const LAST_WORDS: Duration = Duration::from_secs(30);
/// What is covered is written down at most so often.
const WRITTEN_DOWN: Duration = Duration::from_secs(10);
/// So often it is looked whether there is a backup by now from which the log goes on.
const LOOK_FOR_A_BACKUP: Duration = Duration::from_secs(15);
/// A source from which so much is still to come is told of.
const BEHIND: u64 = 256 << 20;
/// And told of again no sooner than after this.
const TOLD_AGAIN: Duration = Duration::from_secs(60);

/// How receiving ended.
pub(super) enum End {
    /// The process was asked to stop; all that came is durable.
    Asked,
    /// The server goes on on another timeline.
    Timeline,
    /// The connection is gone; all that came is durable.
    Lost(Broke),
}

/// Receives one timeline over one connection.
pub(super) struct Receiver<'a> {
    house: &'a House,
    means: Means<'a>,
    wire: Wire,
    /// Holds nothing; a source that is about to shut down waits for receivers, not for sessions.
    _plain: Client,
    identity: Identity,
    segment_bytes: usize,
    progress: &'a dyn Progress,
    lag: Span,

    first: Option<Said>,
    begun_at: Place,
    segment: Segment,
    /// The segment from its beginning, as far as it has come.
    bytes: Vec<u8>,
    /// How much of it went to be sealed, or was there already.
    handed_on: usize,
    /// What is there of it already: compared when it has come again.
    there: Vec<(Piece, String)>,
    /// Up to where that was so.
    compared: Lsn,
    position: Lsn,
    /// Everything that had been committed by then is before `position`.
    covered: Option<Timestamp>,
    server_end: Lsn,

    pending: Option<Job>,
    jobs: mpsc::Sender<Job>,
    durable: watch::Receiver<Durable>,

    anchored: bool,
    looked_for_backup: Instant,
    written: Option<(Instant, Timestamp)>,
    told_behind: Option<Instant>,
    told_trouble: Option<Instant>,
}

impl<'a> Receiver<'a> {
    #[expect(clippy::too_many_arguments, reason = "all of it is what one receiver is made of")]
    pub fn new(
        house: &'a House,
        means: Means<'a>,
        ground: Ground,
        place: Place,
        first: Option<Said>,
        lag: Span,
        there: There,
        jobs: mpsc::Sender<Job>,
        durable: watch::Receiver<Durable>,
        progress: &'a dyn Progress,
    ) -> Receiver<'a> {
        let anchored = ground.goes_on_from_a_backup(place);
        Receiver {
            house,
            means,
            segment: Segment::holding(place.timeline, place.at, ground.segment_bytes),
            segment_bytes: usize::try_from(ground.segment_bytes).unwrap_or(usize::MAX),
            wire: ground.wire,
            _plain: ground.plain,
            identity: ground.identity,
            progress,
            lag,
            first,
            begun_at: place,
            bytes: Vec::new(),
            handed_on: 0,
            there: there.chain,
            compared: place.at,
            position: place.at,
            covered: None,
            server_end: place.at,
            pending: None,
            jobs,
            durable,
            anchored,
            looked_for_backup: Instant::now(),
            written: None,
            told_behind: None,
            told_trouble: None,
        }
    }

    /// Until the end of the timeline, of the connection, or of the process. Whatever ends it: what has come becomes durable first.
    pub async fn receive(&mut self) -> Result<End, Broke> {
        let ended = self.until_it_ends().await?;
        self.finish().await?;
        if let End::Asked = ended {
            self.say_durable(false).await.unwrap_or_default();
        }
        Ok(ended)
    }

    async fn until_it_ends(&mut self) -> Result<End, Broke> {
        if let Some(first) = self.first.take()
            && let Some(end) = self.heard(first).await?
        {
            return Ok(end);
        }
        let mut tick = tokio::time::interval(self.lag.to_std().max(Duration::from_millis(50)));
        tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            let waits = self.pending.is_some();
            tokio::select! {
                _ = interrupt::asked_to_stop() => return Ok(End::Asked),
                said = self.wire.hear(), if !waits => match said {
                    Ok(said) => if let Some(end) = self.heard(said).await? {
                        return Ok(end);
                    },
                    Err(broke) => return Ok(End::Lost(broke)),
                },
                permit = self.jobs.clone().reserve_owned(), if waits => match (permit, self.pending.take()) {
                    (Ok(permit), Some(job)) => drop(permit.send(job)),
                    _ => return Err(self.refusal()),
                },
                changed = self.durable.changed() => {
                    if changed.is_err() || self.durable.borrow().refused.is_some() {
                        return Err(self.refusal());
                    }
                    self.tell_trouble();
                    if let Err(broke) = self.say_durable(false).await {
                        return Ok(End::Lost(broke));
                    }
                    self.write_down().await;
                }
                _ = tick.tick() => {
                    self.hand_on(false);
                    self.look_for_backup().await;
                    self.tell_behind();
                    // The answer says by when everything that has come was all that there was: an idle source is covered too.
                    if let Err(broke) = self.say_durable(true).await {
                        return Ok(End::Lost(broke));
                    }
                    self.write_down().await;
                }
            }
        }
    }

    /// Takes in what the server says; whether that is the end.
    async fn heard(&mut self, said: Said) -> Result<Option<End>, Broke> {
        match said {
            Said::Log { at, end, sent_at, bytes } => {
                if at != self.position {
                    return Err(Broke::new(format!(
                        "{} sent its log from {at} on, and {} was to come",
                        self.means.endpoint, self.position
                    )));
                }
                let mut rest = &bytes[..];
                while !rest.is_empty() {
                    let (here, behind) = rest.split_at(rest.len().min(self.segment_bytes - self.bytes.len()));
                    self.bytes.extend_from_slice(here);
                    self.position = Lsn(self.position.0 + here.len() as u64);
                    rest = behind;
                    self.compare()?;
                    if self.bytes.len() == self.segment_bytes {
                        if self.position >= end {
                            self.covered = Some(sent_at);
                        }
                        self.send_waiting().await?;
                        self.hand_on(true);
                    }
                }
                self.caught_up(end, sent_at);
            }
            Said::Alive { end, sent_at, wants_answer } => {
                self.caught_up(end, sent_at);
                if wants_answer && let Err(broke) = self.say_durable(false).await {
                    return Ok(Some(End::Lost(broke)));
                }
            }
            Said::Ended(Some((timeline, at))) => {
                self.progress.say(&format!("timeline {} ended at {at}: on to {timeline}", self.segment.timeline));
                return Ok(Some(End::Timeline));
            }
            Said::Ended(None) => {
                let away = Broke::new(format!("{} shut down", self.means.endpoint));
                return Ok(Some(End::Lost(away)));
            }
        }
        Ok(None)
    }

    fn caught_up(&mut self, end: Lsn, sent_at: Timestamp) {
        self.server_end = self.server_end.max(end);
        if self.position >= end {
            self.covered = self.covered.max(Some(sent_at));
        }
    }

    /// What was there already must have come again as it was.
    fn compare(&mut self) -> Result<(), Broke> {
        while let Some((piece, hash)) = self.there.first() {
            let Some(again) = self.bytes.get(piece.from as usize..piece.to as usize) else { return Ok(()) };
            if blake3::hash(again).to_hex().as_str() != hash {
                return Err(Broke::hinted(
                    format!(
                        "{} sends other bytes than those that are in the store for {}",
                        self.means.endpoint, self.segment
                    ),
                    "was this server restored without a new timeline, or do two servers write under one policy? Give each a policy of its own",
                ));
            }
            self.handed_on = piece.to as usize;
            self.compared = Lsn(self.begun_at.at.0 + u64::from(piece.to));
            self.there.remove(0);
        }
        Ok(())
    }

    /// Until all that is there has come again, nothing is new. A page's header alone tells nothing.
    fn has_new(&self) -> bool {
        self.bytes.len() > self.handed_on && self.there.is_empty() && self.bytes.len() >= 64
    }

    /// Gives what has come to be sealed, unless something waits already; a segment that is whole always.
    fn hand_on(&mut self, whole: bool) {
        if self.pending.is_some() || !(whole || self.has_new()) {
            return;
        }
        if !whole && self.jobs.capacity() == 0 {
            return;
        }
        let from = u32::try_from(self.handed_on).unwrap_or_default();
        let (segment, covered) = (self.segment, self.covered);
        let bytes = if whole {
            let bytes = std::mem::replace(&mut self.bytes, Vec::with_capacity(self.segment_bytes));
            self.handed_on = 0;
            self.there.clear();
            self.segment = segment.next(self.segment_bytes as u64).unwrap_or(segment);
            bytes
        } else {
            self.handed_on = self.bytes.len();
            self.bytes.clone()
        };
        self.pending = Some(Job { segment, bytes: bytes.into(), from, whole, covered });
    }

    async fn send_waiting(&mut self) -> Result<(), Broke> {
        if let Some(job) = self.pending.take() {
            self.jobs.send(job).await.map_err(|_| self.refusal())?;
        }
        Ok(())
    }

    /// What has come becomes durable, however long the store takes: the process is given up only when it was asked to stop.
    async fn finish(&mut self) -> Result<(), Broke> {
        self.send_waiting().await?;
        if self.has_new() {
            // There is room, or there will be.
            while self.jobs.capacity() == 0 {
                self.wait_for_change().await?;
            }
            self.hand_on(false);
            self.send_waiting().await?;
        }
        let handed_on = Lsn(self.position.0 - (self.bytes.len() - self.handed_on.min(self.bytes.len())) as u64);
        while self.there.is_empty() && self.durable_until() < handed_on {
            self.wait_for_change().await?;
        }
        self.written = None;
        self.write_down().await;
        Ok(())
    }

    async fn wait_for_change(&mut self) -> Result<(), Broke> {
        // Room in the channel is not told of: it is looked for.
        let changed = tokio::time::timeout(Duration::from_millis(100), self.durable.changed()).await;
        if changed.is_ok_and(|changed| changed.is_err()) || self.durable.borrow().refused.is_some() {
            return Err(self.refusal());
        }
        self.tell_trouble();
        Ok(())
    }

    fn refusal(&self) -> Broke {
        let refused = self.durable.borrow().refused.clone();
        refused.unwrap_or_else(|| Broke::new("the sealing of the log stopped without a word"))
    }

    fn durable_until(&self) -> Lsn {
        self.durable.borrow().until.unwrap_or(self.compared).max(self.compared)
    }

    async fn say_durable(&mut self, ask: bool) -> Result<(), Broke> {
        let until = self.durable_until();
        self.wire.tell(until, now(), ask).await
    }

    /// Whether everything that has come is durable; then it is so since the server said that there is no more.
    fn covered_by_now(&self) -> Option<Timestamp> {
        let sealed = self.durable.borrow().covered;
        if self.durable_until() >= self.position { self.covered.max(sealed) } else { sealed }
    }

    /// The series of what the store can bring back, if any backup can be brought so far.
    async fn write_down(&mut self) {
        let Some(covered) = self.covered_by_now().filter(|_| self.anchored) else { return };
        let due = match self.written {
            Some((at, before)) => at.elapsed() >= WRITTEN_DOWN && covered > before,
            None => true,
        };
        if !due {
            return;
        }
        let entry = Covered { at: now(), covered, until: Some(self.durable_until()) };
        self.written = Some((Instant::now(), covered));
        if let Err(broke) = self.house.catalog.cover(self.means.policy, entry).await {
            self.progress.say(&format!("what is covered could not be written down: {}", broke.error));
        }
    }

    /// Without a backup from which it goes on, a log brings nothing back.
    async fn look_for_backup(&mut self) {
        if self.anchored || self.looked_for_backup.elapsed() < LOOK_FOR_A_BACKUP {
            return;
        }
        self.looked_for_backup = Instant::now();
        let Means { store, policy, trusted, .. } = self.means;
        // What cannot be seen now may be later.
        let found = backups(store, policy, trusted, &self.identity).await.unwrap_or_default();
        let timeline = self.begun_at.timeline;
        self.anchored = found.iter().any(|backup| backup.timeline == timeline && backup.at >= self.begun_at.at);
        if self.anchored {
            self.progress.say("there is a backup now from which this log goes on");
        }
    }

    fn tell_behind(&mut self) {
        let behind = self.server_end.0.saturating_sub(self.durable_until().0);
        if behind > BEHIND && self.told_behind.is_none_or(|told| told.elapsed() > TOLD_AGAIN) {
            self.told_behind = Some(Instant::now());
            self.progress.say(&format!(
                "{} of the log are not durable yet; the source keeps them on its disk",
                ByteSize(behind)
            ));
        }
    }

    fn tell_trouble(&mut self) {
        let trouble = self.durable.borrow().trouble.clone();
        match trouble {
            Some(broke) if self.told_trouble.is_none_or(|told| told.elapsed() > TOLD_AGAIN) => {
                self.told_trouble = Some(Instant::now());
                self.progress.say(&format!(
                    "nothing can be stored: {}; trying again, and the source keeps its log",
                    broke.error
                ));
            }
            None if self.told_trouble.take().is_some() => self.progress.say("the store takes the log again"),
            Some(_) | None => {}
        }
    }
}
