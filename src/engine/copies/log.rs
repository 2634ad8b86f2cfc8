//! The log in a second store, beside the first.

use std::sync::Arc;

use futures_util::StreamExt;

use super::backup::{in_a_copy, wrong_before};
use super::{Look, ReadShelf};
use crate::domain::check::{Broke, Finding, Stop};
use crate::domain::copies::LogSpread;
use crate::domain::ids::PlaceName;
use crate::domain::ledger::Depth;
use crate::domain::units::ByteSize;
use crate::domain::wal::WalName;
use crate::judge::ledger::ReadBack;
use crate::seal::{self, LogFile, LogList};
use crate::store::Store;

impl Look<'_> {
    /// Looks at the log in both stores.
    pub(super) async fn log(&self, from: &PlaceName, to: &PlaceName) -> LogSpread {
        let mut spread = LogSpread {
            store: to.clone(),
            files: 0,
            missing: 0,
            between: None,
            missing_since: None,
            findings: Vec::new(),
            read: self.read,
            unseen: None,
        };
        self.progress.stage(&format!("look at the log in {to}"));
        if let Err(broke) = self.compare(from, to, &mut spread).await {
            spread.unseen = Some(broke.error);
            spread.read = false;
        }
        spread.findings.truncate(seal::MAX_FINDINGS);
        spread
    }

    /// What the ledger says of the log in the second store: whether all of it was read lately; what is wrong is a finding.
    async fn log_read_before(&self, to: &PlaceName, list: &LogList, spread: &mut LogSpread) {
        let objects: Vec<_> = list.files.keys().map(|name| (seal::wal_key(&self.policy.name, *name), None)).collect();
        match self.by_ledger(to, &ReadShelf::Log, &objects).await {
            ReadBack::Lately(_) => spread.read = true,
            ReadBack::Wrong(wrong, key) => {
                spread.findings.push(Finding { object: format!("log {key}"), ..wrong_before(*wrong) });
            }
            ReadBack::Not(_) => {}
        }
    }

    /// A store's list of the log; none: the store was never made.
    async fn listed(&self, name: &PlaceName) -> Result<Option<(Arc<dyn Store>, LogList)>, Broke> {
        let Some(shelf) = self.shelves.get(name) else { return Ok(None) };
        match &shelf.store {
            Ok(store) => Ok(Some((Arc::clone(store), LogList::of(&**store, &self.policy.name).await?))),
            Err(_) if shelf.empty => Ok(None),
            Err(why) => Err(Broke::new(why.clone())),
        }
    }

    async fn compare(&self, from: &PlaceName, to: &PlaceName, spread: &mut LogSpread) -> Result<(), Broke> {
        let theirs = self.listed(to).await?;
        if let (true, Some((store, list))) = (self.read, &theirs) {
            self.read_all(to, store, list, &mut spread.findings).await?;
        }
        if let (false, Some((_, list))) = (self.read, &theirs) {
            self.log_read_before(to, list, spread).await;
        }
        let Some((first, ours)) = self.listed(from).await? else { return Ok(()) };
        let nothing = LogList::default();
        let list = theirs.as_ref().map_or(&nothing, |(_, list)| list);
        let wanted: Vec<WalName> = ours.files.keys().filter(|name| !ours.is_superfluous(name)).copied().collect();
        spread.files = wanted.len() as u64;
        let lacks = |name: &&WalName| !list.files.contains_key(name) && !list.is_superfluous(name);
        let missing: Vec<WalName> = wanted.iter().filter(lacks).copied().collect();
        spread.missing = missing.len() as u64;
        if let (Some(one), Some(last)) = (missing.first(), missing.last()) {
            spread.between = Some((one.to_string(), last.to_string()));
            match LogFile::open(&*first, &self.policy.name, *one, &self.trusted).await {
                Ok(file) => spread.missing_since = file.map(|file| file.record.stored()),
                // What is wrong in the first store is for `verify --wal`; here it only has no age.
                Err(Stop::Found(_)) => {}
                Err(Stop::Broke(broke)) => return Err(broke),
            }
        }
        if let (false, Some((store, list))) = (self.read, &theirs) {
            for name in wanted.iter().filter(|name| list.files.contains_key(name)) {
                let (mine, other) = (ours.object(*name), list.object(*name));
                if mine.is_none() || mine != other || ours.files.get(name) != list.files.get(name) {
                    spread.findings.extend(self.listed_wrong(store, list, *name).await?);
                }
            }
        }
        Ok(())
    }

    /// A file whose object does not lie there under its usual name with the first one's length: its record tells.
    async fn listed_wrong(&self, store: &Arc<dyn Store>, list: &LogList, name: WalName) -> Result<Vec<Finding>, Broke> {
        let record = match LogFile::open(&**store, &self.policy.name, name, &self.trusted).await {
            Ok(Some(file)) => file.record,
            Ok(None) => return Ok(Vec::new()),
            Err(Stop::Found(findings)) => return Ok(findings.into_iter().map(in_a_copy).collect()),
            Err(Stop::Broke(broke)) => return Err(broke),
        };
        let wanted = format!("{} bytes", record.sealed_bytes);
        let object = format!("log {name}");
        Ok(match list.objects.get(&record.key) {
            Some(bytes) if *bytes == record.sealed_bytes => Vec::new(),
            Some(bytes) => {
                let message = "its object does not have its length: it was cut or replaced";
                vec![Finding::new("copy_corrupt", object, message).with(wanted, format!("{bytes} bytes"))]
            }
            None => {
                let message = "its record is there and its object is not";
                vec![Finding::new("copy_object_missing", object, message).with(wanted, "nothing")]
            }
        })
    }

    async fn read_all(
        &self,
        to: &PlaceName,
        store: &Arc<dyn Store>,
        list: &LogList,
        findings: &mut Vec<Finding>,
    ) -> Result<(), Broke> {
        let (policy, trusted) = (&self.policy.name, &self.trusted);
        let one = |name: WalName| async move {
            let checked = seal::check_wal(&**store, policy, name, trusted, None).await;
            (name, checked)
        };
        let names: Vec<WalName> = list.files.keys().copied().collect();
        let mut running = futures_util::stream::iter(names).map(one).buffered(self.parallel);
        while let Some((name, checked)) = running.next().await {
            let key = seal::wal_key(policy, name);
            let tell = |bytes, finding| self.record.object(to, policy, &key, ByteSize(bytes), Depth::Sealed, finding);
            match checked {
                Ok(None) => {}
                Ok(Some(record)) => tell(record.sealed_bytes, None),
                Err(Stop::Found(found)) => {
                    tell(0, found.first().cloned());
                    findings.extend(found.into_iter().map(|finding| {
                        let finding = in_a_copy(finding);
                        Finding { object: format!("log {name}"), ..finding }
                    }));
                }
                Err(Stop::Broke(broke)) => return Err(broke),
            }
        }
        Ok(())
    }
}
