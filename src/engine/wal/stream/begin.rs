//! How a receiver begins: who the server is, what the store has, from where on the server is asked.

use std::collections::BTreeSet;
use std::sync::Arc;

use tokio_postgres::Client;

use crate::backup::session;
use crate::backup::wal::{Identity, slot};
use crate::backup::wire::Wire;
use crate::domain::check::{Broke, Stop};
use crate::domain::ids::PolicyName;
use crate::domain::wal::{History, Piece, WalName, chain};
use crate::judge::stream::{Known, Place, continuous, places};
use crate::probe::{self, Endpoint};
use crate::seal::{self, Placed, TrustedSigners, WalFile, WalSealer};
use crate::store::Store;

/// What is known of the server and the store before anything is received.
pub(super) struct Ground {
    pub wire: Wire,
    pub plain: Client,
    pub identity: Identity,
    pub segment_bytes: u64,
    pub history: History,
    pub names: BTreeSet<WalName>,
    pub slot: slot::Slot,
    pub backups: Vec<Place>,
}

/// Who receives, and where to.
#[derive(Clone, Copy)]
pub(super) struct Means<'a> {
    pub endpoint: &'a Endpoint,
    pub store: &'a Arc<dyn Store>,
    pub policy: &'a PolicyName,
    pub trusted: &'a TrustedSigners,
    pub sealer: &'a WalSealer,
    /// Of which cluster the policy's backups are; none: it has none yet.
    pub of: Option<&'a str>,
}

/// The segment bytes and pieces that are there already where receiving begins.
pub(super) struct There {
    /// The pieces that are put end to end, with the hash of each.
    pub chain: Vec<(Piece, String)>,
    /// All of them.
    pub pieces: Vec<Piece>,
}

impl Ground {
    /// Connects, looks at both sides, and takes over the histories of the server's timelines.
    pub async fn explore(means: Means<'_>) -> Result<Ground, Broke> {
        let Means { endpoint, store, policy, .. } = means;
        let plain = session::plain(endpoint).await?;
        let server = probe::server(&plain).await?;
        if server.in_recovery {
            return Err(Broke::hinted(
                format!("{endpoint} is a standby: its log is that of its primary, and it has no slot to give for it"),
                "name the primary in the policy's source",
            ));
        }
        let mut wire = Wire::connect(endpoint).await?;
        let identity = wire.identify().await?;
        if let Some(of) = means.of.filter(|of| **of != identity.system_identifier) {
            return Err(Broke::hinted(
                format!(
                    "{endpoint} is the cluster {}, and the backups of policy {policy} are of {of}",
                    identity.system_identifier
                ),
                "give each cluster a policy of its own",
            ));
        }
        let mut names = seal::list_wal(&**store, policy).await?;
        let mut history = History::default();
        // Its own first: that names those that came before it, of which a server may not have kept the file.
        let mut wanted: Vec<u32> = Vec::from_iter((identity.timeline > 1).then_some(identity.timeline));
        while let Some(timeline) = wanted.pop() {
            let newest = timeline == identity.timeline;
            let name = WalName::History { timeline };
            if names.contains(&name) && !newest {
                continue;
            }
            let bytes = match wire.history(timeline).await {
                Ok(bytes) => bytes,
                Err(broke) if newest => return Err(broke),
                Err(_) => {
                    wire = Wire::connect(endpoint).await?;
                    continue;
                }
            };
            let parsed = History::parse(&String::from_utf8_lossy(&bytes));
            let parsed = parsed.map_err(|why| Broke::new(format!("{endpoint} sent a history that is none: {why}")))?;
            if newest {
                wanted.extend(parsed.ancestors.iter().map(|(ancestor, _)| *ancestor).filter(|ancestor| *ancestor > 1));
                history = parsed;
            }
            let system_identifier = Some(identity.system_identifier.clone());
            let file = WalFile { name, system_identifier, contents: None, bytes };
            if let Placed::Differs(record) = means.sealer.put(&file, crate::clock::now()).await? {
                return Err(Broke::hinted(
                    format!(
                        "{name} is in {} already, with other words, sealed at {}: timeline {timeline} is another one",
                        store.url(),
                        record.sealed_at
                    ),
                    "was this server restored from a backup and given a timeline that was used before? Give it a policy of its own",
                ));
            }
            names.insert(name);
        }
        let slot = slot::hold(&plain, endpoint, &slot::name_of(policy)).await?;
        let backups = backups(store, policy, means.trusted, &identity).await?;
        let segment_bytes = server.wal_segment_bytes;
        Ok(Ground { wire, plain, identity, segment_bytes, history, names, slot, backups })
    }

    pub fn known(&self) -> Known<'_> {
        Known {
            segment_bytes: self.segment_bytes,
            timeline: self.identity.timeline,
            history: &self.history,
            names: &self.names,
            backups: &self.backups,
            kept_from: self.slot.keeps_from,
            flushed: self.identity.flushed,
        }
    }

    /// Where to begin, the best first.
    pub fn places(&self) -> Vec<Place> {
        places(&self.known())
    }

    /// Whether any backup can be brought up to a place, as far as names tell.
    pub fn goes_on_from_a_backup(&self, to: Place) -> bool {
        self.backups.iter().any(|backup| backup.at >= to.at || continuous(&self.known(), *backup, to))
    }
}

/// Where the physical backups in a store end, the newest first.
pub(super) async fn backups(
    store: &Arc<dyn Store>,
    policy: &PolicyName,
    trusted: &TrustedSigners,
    identity: &Identity,
) -> Result<Vec<Place>, Broke> {
    let mut found = Vec::new();
    for (_, backup) in seal::list_backups(&**store, Some(policy), trusted).await? {
        match seal::load_manifest(&**store, policy, &backup, trusted).await {
            Ok(sealed) => {
                let of = &sealed.manifest.fingerprint.server.system_identifier;
                let range = sealed.manifest.wal.as_ref().filter(|_| *of == identity.system_identifier);
                found.extend(range.map(|range| Place { timeline: range.timeline, at: range.end }));
            }
            // That is for `verify` to say.
            Err(Stop::Found(_)) => {}
            Err(Stop::Broke(broke)) => return Err(broke),
        }
    }
    found.reverse();
    Ok(found)
}

/// What is there of the segment with which receiving begins.
pub(super) async fn there(means: Means<'_>, ground: &Ground, place: Place) -> Result<There, Broke> {
    let segment = crate::domain::wal::Segment::holding(place.timeline, place.at, ground.segment_bytes);
    let pieces: Vec<Piece> = ground
        .names
        .iter()
        .filter_map(|name| match name {
            WalName::Piece(piece) if piece.segment == segment => Some(*piece),
            _ => None,
        })
        .collect();
    let mut chained = Vec::new();
    for piece in chain(&pieces) {
        match seal::load_wal_record(&**means.store, means.policy, WalName::Piece(piece), means.trusted).await {
            Ok(Some(record)) => chained.push((piece, record.plain_blake3)),
            // What cannot be believed is received and sealed again, under other names.
            Ok(None) | Err(Stop::Found(_)) => break,
            Err(Stop::Broke(broke)) => return Err(broke),
        }
    }
    Ok(There { chain: chained, pieces })
}
