//! One backup in every store that should have it.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::{Look, ReadShelf, Shelf};
use crate::domain::artifact::{Manifest, Part};
use crate::domain::check::{Broke, Finding, Stop};
use crate::domain::copies::{CopyTerms, Held, ReadBy, Spread};
use crate::domain::ids::{BackupId, JobName, PlaceName};
use crate::domain::ledger::Wrong;
use crate::domain::observed::Observed;
use crate::judge::ledger::ReadBack;
use crate::seal::{self, Original, Witness};
use crate::store::Store;

/// What a store has of a backup's manifest.
enum Title {
    Good(Box<Original>),
    Bad(Vec<Finding>),
    Unseen(String),
}

impl Look<'_> {
    /// Looks at one backup everywhere.
    pub(super) async fn spread(&self, terms: &[CopyTerms], id: &BackupId) -> Spread {
        self.progress.stage(&format!("look at {id}"));
        let mut titles: BTreeMap<&PlaceName, Title> = BTreeMap::new();
        for (name, shelf) in self.shelves.iter().filter(|(_, shelf)| shelf.held.contains(id)) {
            if let Ok(store) = &shelf.store {
                titles.insert(name, self.title(store, id).await);
            }
        }
        let known = self.known.iter().find(|record| record.backup == *id);
        // What the catalog saw being written, else what lies where it was taken, else anywhere.
        let good = |name: &PlaceName| match titles.get(name) {
            Some(Title::Good(original)) => Some(original),
            Some(Title::Bad(_) | Title::Unseen(_)) | None => None,
        };
        let taken_to =
            terms.iter().filter_map(|terms| good(&terms.store).filter(|it| it.sealed.manifest.job == terms.job));
        let reference = taken_to.chain(self.shelves.keys().filter_map(good)).next();
        let sha256 = known
            .map(|record| record.manifest_sha256.clone())
            .or_else(|| reference.map(|original| original.sealed.sha256.clone()));
        let job = known
            .map(|record| record.job.clone())
            .or_else(|| reference.map(|original| original.sealed.manifest.job.clone()))
            .unwrap_or_else(|| self.job_by_place(terms, &titles));
        let finished_at = known
            .map(|record| record.finished_at)
            .or_else(|| reference.map(|original| original.sealed.manifest.finished_at))
            .or_else(|| id.began_at())
            .unwrap_or(jiff::Timestamp::MIN);
        let of_job = terms.iter().find(|terms| terms.job == job);
        let wanted = |name: &PlaceName| of_job.is_some_and(|of| of.store == *name || of.copies.contains(name));
        let mut held = Vec::new();
        for (name, shelf) in &self.shelves {
            if wanted(name) || shelf.held.contains(id) {
                held.push(self.held(name, shelf, id, titles.get(name), sha256.as_deref()).await);
            }
        }
        Spread { backup: id.clone(), job, finished_at, held }
    }

    /// Of a backup of which nobody can tell the job: the first one that has to do with a store in which it lies.
    fn job_by_place(&self, terms: &[CopyTerms], titles: &BTreeMap<&PlaceName, Title>) -> JobName {
        let near = |terms: &&CopyTerms| {
            titles.contains_key(&terms.store) || terms.copies.iter().any(|copy| titles.contains_key(copy))
        };
        let found = terms.iter().find(near).or(terms.first());
        found.map_or_else(|| self.policy.backups[0].name.clone(), |terms| terms.job.clone())
    }

    async fn title(&self, store: &Arc<dyn Store>, id: &BackupId) -> Title {
        match Original::open(&**store, &self.policy.name, id, &self.trusted).await {
            Ok(original) => Title::Good(Box::new(original)),
            Err(Stop::Found(findings)) => Title::Bad(findings.into_iter().map(in_a_copy).collect()),
            Err(Stop::Broke(broke)) => Title::Unseen(broke.error),
        }
    }

    async fn held(
        &self,
        name: &PlaceName,
        shelf: &Shelf,
        id: &BackupId,
        title: Option<&Title>,
        sha256: Option<&str>,
    ) -> Held {
        let copied = self.copies.iter().find(|copy| copy.store == *name && copy.backup == *id && !copy.already);
        let mut held = Held {
            store: name.clone(),
            seen: Observed::Absent,
            verified: Observed::Unknown("it was only listed, and not read".to_owned()),
            read_by: None,
            lag: copied.map(|copy| copy.lag),
        };
        let store = match &shelf.store {
            Ok(store) => store,
            Err(_) if shelf.empty => return held,
            Err(why) => {
                held.seen = Observed::Unknown(why.clone());
                return held;
            }
        };
        held.seen = match title {
            None if self.known.iter().any(|record| record.store == *name && record.backup == *id) => {
                let message = "it was there, by the catalog, and is not there any more";
                Observed::Known(vec![
                    Finding::new("copy_missing", "all of it", message).with("its manifest", "nothing"),
                ])
            }
            None => Observed::Absent,
            Some(Title::Unseen(why)) => Observed::Unknown(why.clone()),
            Some(Title::Bad(findings)) => Observed::Known(findings.clone()),
            Some(Title::Good(original)) if sha256.is_some_and(|sha256| sha256 != original.sealed.sha256) => {
                let message = "it is another manifest than the one that was written when the backup was taken";
                let finding = Finding::new("copy_corrupt", "manifest.json", message);
                Observed::Known(vec![finding.with(sha256.unwrap_or_default(), original.sealed.sha256.as_str())])
            }
            Some(Title::Good(original)) => match self.objects(store, &original.sealed.manifest).await {
                Ok(findings) => Observed::Known(findings),
                Err(broke) => Observed::Unknown(broke.error),
            },
        };
        match &held.seen {
            Observed::Known(findings) if self.read && findings.is_empty() => {
                (held.verified, held.read_by) = (Observed::Known(crate::clock::now()), Some(ReadBy::Look));
            }
            Observed::Known(findings) if findings.is_empty() => {
                if let Some(Title::Good(original)) = title {
                    self.read_before(&mut held, &original.sealed.manifest).await;
                }
            }
            Observed::Known(_) => {
                held.verified = Observed::Unknown("it was found to be wrong".to_owned());
            }
            Observed::Absent | Observed::Unknown(_) => {}
        }
        held
    }

    /// What the ledger says of all parts that a manifest names: read lately, wrong, or neither.
    async fn read_before(&self, held: &mut Held, manifest: &Manifest) {
        let prefix = format!("{}/{}", manifest.policy, manifest.backup);
        let parts = manifest.streams.iter().flat_map(|stream| &stream.parts);
        let objects: Vec<_> = parts.map(|part| (format!("{prefix}/{}", part.key), Some(part.sealed_bytes))).collect();
        match self.by_ledger(&held.store, &ReadShelf::Backup(manifest.backup.clone()), &objects).await {
            ReadBack::Lately(at) => (held.verified, held.read_by) = (Observed::Known(at), Some(ReadBy::Ledger)),
            ReadBack::Not(why) => held.verified = Observed::Unknown(why),
            ReadBack::Wrong(wrong, key) => {
                held.verified = Observed::Unknown(format!("{key} was wrong when it was last read back"));
                held.seen = Observed::Known(vec![wrong_before(*wrong)]);
            }
        }
    }

    /// What is wrong with the objects that a manifest names.
    async fn objects(&self, store: &Arc<dyn Store>, manifest: &Manifest) -> Result<Vec<Finding>, Broke> {
        let prefix = format!("{}/{}", manifest.policy, manifest.backup);
        if !self.read {
            let folder = format!("{prefix}/");
            let listed = store.list(&folder).await?;
            let there: BTreeMap<&str, u64> =
                listed.iter().filter_map(|one| Some((one.key.strip_prefix(&folder)?, one.bytes))).collect();
            let parts = manifest.streams.iter().flat_map(|stream| &stream.parts);
            return Ok(parts.filter_map(|part| listed_wrong(part, &there)).take(seal::MAX_FINDINGS).collect());
        }
        self.progress.expect(manifest.sealed_bytes().0);
        let mut findings = Vec::new();
        for stream in &manifest.streams {
            let witness = Arc::clone(&self.record) as Arc<dyn Witness>;
            let (store, seen) = (Arc::clone(store), |_: usize, _: &Part| {});
            let read = seal::for_each_sealed(store, &prefix, stream, self.parallel, Some(&witness), seen).await;
            match read {
                Ok((_, _, sealed)) => self.progress.moved(sealed),
                Err(Stop::Found(found)) => findings.extend(found.into_iter().map(in_a_copy)),
                Err(Stop::Broke(broke)) => return Err(broke),
            }
        }
        findings.truncate(seal::MAX_FINDINGS);
        Ok(findings)
    }
}

fn listed_wrong(part: &Part, there: &BTreeMap<&str, u64>) -> Option<Finding> {
    let wanted = format!("{} bytes", part.sealed_bytes);
    let object = format!("part {}", part.key);
    match there.get(part.key.as_str()) {
        Some(bytes) if *bytes == part.sealed_bytes => None,
        Some(bytes) => {
            let message = "the object does not have its length: it was cut or replaced";
            Some(Finding::new("copy_corrupt", object, message).with(wanted, format!("{bytes} bytes")))
        }
        None => {
            let message = "the manifest names this part, and it is not there";
            Some(Finding::new("copy_object_missing", object, message).with(wanted, "nothing"))
        }
    }
}

/// The same finding by the two words that are used of copies.
pub(super) fn in_a_copy(finding: Finding) -> Finding {
    let missing = matches!(finding.code.as_str(), "part_missing" | "wal_missing" | "manifest_missing");
    let code = if missing { "copy_object_missing" } else { "copy_corrupt" };
    Finding { code: code.to_owned(), ..finding }
}

/// What the ledger knows to be wrong, as a finding of a copy.
pub(super) fn wrong_before(wrong: Wrong) -> Finding {
    let finding = in_a_copy(wrong.finding);
    let message = format!("{}; so it was read back at {:.0}, and it was not right since", finding.message, wrong.at);
    Finding { message, ..finding }
}
