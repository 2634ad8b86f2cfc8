//! What a run has to say while the catalog is away waits on this machine, and is delivered when it is back: in order, once.
//!
//! Facts are kept (what happened, happened); intentions are not: a run that would begin now is refused.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use async_trait::async_trait;
use jiff::Timestamp;
use tokio::sync::{Mutex, OnceCell};

use self::file::{Pen, Word};
use super::before::Before;
use super::{Asked, Catalog, Reach, Recorded};
use crate::domain::check::Broke;
use crate::domain::exposure::Covered;
use crate::domain::ids::{PolicyName, RunId};
use crate::domain::ledger::Reading;
use crate::domain::run::{Event, EventId};

mod file;

pub use file::{Waiting, waiting};

/// A catalog that did not answer is left alone for so long: each question costs its whole time limit.
const REST: Duration = Duration::from_secs(5);

/// Before a catalog that may go away.
pub struct Spooling {
    catalog: Arc<dyn Catalog>,
    spool: Arc<Spool>,
    looked: OnceCell<()>,
}

/// What is written together and in order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Subject {
    Run(RunId),
    /// What belongs to no run: coverage, and readings of no run.
    Other,
}

struct Spool {
    folder: PathBuf,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// This process's own files, each locked while it is here.
    pens: BTreeMap<Subject, Pen>,
    /// Others' files were seen that could not be delivered yet.
    leftovers: bool,
    rests_until: Option<Instant>,
    delivering: bool,
    /// It was said once that nothing can be delivered.
    told: bool,
}

impl State {
    fn rests(&self) -> bool {
        self.rests_until.is_some_and(|until| Instant::now() < until)
    }
}

impl Spooling {
    /// Before this catalog, with this folder (made when it is needed).
    pub fn before(catalog: Arc<dyn Catalog>, folder: &Path) -> Spooling {
        let spool = Arc::new(Spool { folder: folder.to_owned(), state: Mutex::default() });
        Spooling { catalog, spool, looked: OnceCell::new() }
    }

    /// Whether a run that somebody takes for dead has ended by its own word: what that process left is said first. The first end
    /// stands, so a wrong one must not come before the right one.
    async fn has_ended(&self, run: RunId) -> Result<bool, Broke> {
        let mut state = self.spool.state.lock().await;
        self.spool.try_deliver(&mut state, &*self.catalog).await?;
        drop(state);
        Ok(self.catalog.run(run).await?.is_some_and(|run| run.ended_at.is_some()))
    }

    /// Says it to the catalog, or keeps it.
    async fn keep(&self, subject: Subject, word: Word) -> Result<(), Broke> {
        {
            let mut state = self.spool.state.lock().await;
            if state.pens.contains_key(&subject) && !state.rests() {
                self.spool.deliver(&mut state, &*self.catalog).await;
            }
            if state.pens.contains_key(&subject) || state.rests() {
                return self.spool.write(&mut state, &self.catalog, subject, &word, None);
            }
        }
        let Err(broke) = word.say(&*self.catalog, false).await else { return Ok(()) };
        let mut state = self.spool.state.lock().await;
        state.rests_until = Some(Instant::now() + REST);
        self.spool.write(&mut state, &self.catalog, subject, &word, Some(&broke))
    }
}

impl Spool {
    /// Keeps it: durable on return. From then on somebody tries to deliver it.
    fn write(
        self: &Arc<Self>,
        state: &mut State,
        catalog: &Arc<dyn Catalog>,
        subject: Subject,
        word: &Word,
        why: Option<&Broke>,
    ) -> Result<(), Broke> {
        if let Some(broke) = why {
            let folder = self.folder.display();
            tracing::warn!(error = %broke.error, "the catalog cannot be written; what happens meanwhile waits in {folder}");
        }
        let kept = match state.pens.get_mut(&subject) {
            Some(pen) => pen.write(word),
            None => Pen::new(&self.folder, &subject.word()).and_then(|mut pen| {
                pen.write(word)?;
                state.pens.insert(subject, pen);
                Ok(())
            }),
        };
        kept.map_err(|error| {
            let away = why.map_or_else(String::new, |broke| format!(" ({})", broke.error));
            Broke::hinted(
                format!(
                    "the catalog cannot be written{away}, and neither can the spool {}: {error}",
                    self.folder.display()
                ),
                "make room there, or name another folder: [catalog] spool; what happened is not written down",
            )
        })?;
        self.deliver_later(state, catalog);
        Ok(())
    }

    fn deliver_later(self: &Arc<Self>, state: &mut State, catalog: &Arc<dyn Catalog>) {
        if state.delivering {
            return;
        }
        state.delivering = true;
        let (spool, catalog) = (Arc::clone(self), Arc::clone(catalog));
        tokio::spawn(async move {
            loop {
                tokio::time::sleep(REST).await;
                let mut state = spool.state.lock().await;
                spool.deliver(&mut state, &*catalog).await;
                if state.pens.is_empty() && !state.leftovers {
                    state.delivering = false;
                    return;
                }
            }
        });
    }

    /// Delivers what waits, this process's own and what dead ones left, until the catalog does not answer.
    async fn deliver(&self, state: &mut State, catalog: &dyn Catalog) {
        match self.try_deliver(state, catalog).await {
            Ok(0) => {}
            Ok(words) => {
                state.told = false;
                tracing::warn!(words, "the catalog can be written again: what waited for it was delivered");
            }
            Err(broke) => {
                state.rests_until = Some(Instant::now() + REST);
                if !std::mem::replace(&mut state.told, true) {
                    let folder = self.folder.display();
                    tracing::warn!(error = %broke.error, "what waits for the catalog in {folder} cannot be delivered yet");
                }
            }
        }
    }

    async fn try_deliver(&self, state: &mut State, catalog: &dyn Catalog) -> Result<usize, Broke> {
        let mut words = 0;
        state.leftovers = true;
        for left in file::leftovers(&self.folder) {
            words += left.deliver(catalog).await?;
        }
        state.leftovers = false;
        while let Some((subject, pen)) = state.pens.pop_first() {
            match pen.deliver(catalog).await {
                Ok(said) => words += said,
                Err((broke, pen)) => {
                    state.pens.insert(subject, pen);
                    return Err(broke);
                }
            }
        }
        Ok(words)
    }
}

impl Subject {
    fn word(self) -> String {
        match self {
            Subject::Run(run) => run.to_string(),
            Subject::Other => "other".to_owned(),
        }
    }
}

/// Whether it tells what happened, and not what is going to happen or what somebody concluded about another's run.
fn is_fact(event: &Event) -> bool {
    match event {
        Event::Planned { .. }
        | Event::Started { .. }
        | Event::Abandoned { .. }
        | Event::Missed { .. }
        | Event::CaughtUp { .. } => false,
        Event::ScratchMade { .. }
        | Event::ScratchDestroyed { .. }
        | Event::Committed(_)
        | Event::Copied(_)
        | Event::Drilled(_)
        | Event::DrillTested(_)
        | Event::HoleAcknowledged(_)
        | Event::ImmutabilityTried { .. }
        | Event::Marked { .. }
        | Event::Removed(_)
        | Event::LogRemoved { .. }
        | Event::OrphansRemoved { .. }
        | Event::Finished { .. } => true,
    }
}

#[async_trait]
impl Before for Spooling {
    fn behind(&self) -> &Arc<dyn Catalog> {
        &self.catalog
    }

    /// What an earlier process could not say is said before anything is asked: else the answer would be wrong.
    async fn first(&self) {
        self.looked
            .get_or_init(|| async {
                file::warn_of_damaged(&self.spool.folder);
            })
            .await;
        // Looked for each time: a process that left something may have ended just now.
        if file::anything(&self.spool.folder) {
            let mut state = self.spool.state.lock().await;
            if !state.rests() {
                self.spool.deliver(&mut state, &*self.catalog).await;
            }
            if state.leftovers {
                self.spool.deliver_later(&mut state, &self.catalog);
            }
        }
    }

    async fn tells(&self, asked: &[Asked], reach: Reach) -> Result<Vec<Recorded>, Broke> {
        self.catalog.recorded(asked, reach).await
    }

    async fn says(
        &self,
        id: EventId,
        at: Timestamp,
        policy: &PolicyName,
        run: RunId,
        event: Event,
    ) -> Result<(), Broke> {
        if is_fact(&event) {
            let word = Word::Event { id, at, policy: policy.clone(), run, event: Box::new(event) };
            return self.keep(Subject::Run(run), word).await;
        }
        if matches!(event, Event::Abandoned { .. }) && self.has_ended(run).await? {
            return Ok(());
        }
        let begins = matches!(event, Event::Planned { .. } | Event::Started { .. });
        self.catalog.deliver(id, at, policy, run, event).await.map_err(|broke| {
            if begins {
                Broke { error: format!("no run is begun that cannot be written down: {}", broke.error), ..broke }
            } else {
                broke
            }
        })
    }

    async fn has_read(&self, readings: Vec<Reading>) -> Result<(), Broke> {
        let run = readings.first().and_then(|one| one.run);
        self.keep(run.map_or(Subject::Other, Subject::Run), Word::Read { readings }).await
    }

    async fn covers(&self, policy: &PolicyName, covered: Covered) -> Result<(), Broke> {
        self.keep(Subject::Other, Word::Cover { policy: policy.clone(), covered }).await
    }
}
