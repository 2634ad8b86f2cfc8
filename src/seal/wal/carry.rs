//! From a spool into the store: each file is where it belongs, and was looked at there, before it is taken away here.

use jiff::Timestamp;

use super::{Placed, WalSealer, check_wal, load_wal_record, record_key, sealed_wal};
use crate::domain::check::{Broke, Finding, Stop};
use crate::domain::wal::{WalName, WalRecord};
use crate::seal::{SealError, TrustedSigners, check_sealed};
use crate::store::{Store, StoreError};

/// What came of carrying a file.
#[derive(Clone, Debug, PartialEq)]
pub enum Carried {
    /// The store has it now, and the spool no longer does.
    Stored(WalRecord),
    /// The store has other bytes under this name; both stay.
    Differs(WalRecord),
    /// It is not in the spool any more: somebody else was quicker.
    Gone,
}

/// Why a file stays in the spool.
#[derive(Debug)]
pub enum CarryError {
    /// The store takes nothing, or cannot be looked at: nor will it take the next one.
    Store(SealError),
    /// This one file is not what it should be, here or there.
    Found(Vec<Finding>),
    /// This one file cannot be carried, for another reason.
    Stays(Broke),
}

impl From<SealError> for CarryError {
    fn from(error: SealError) -> CarryError {
        match error {
            SealError::Store(StoreError::Unusable { .. } | StoreError::Service { .. } | StoreError::Io { .. }) => {
                CarryError::Store(error)
            }
            other => CarryError::Stays(other.into()),
        }
    }
}

fn here(stop: Stop) -> CarryError {
    match stop {
        Stop::Found(findings) => CarryError::Found(findings),
        Stop::Broke(broke) => CarryError::Stays(broke),
    }
}

impl WalSealer {
    /// Carries a file from a spool into the store: object first, record last, and taken away in the same order. It may be killed anywhere and be
    /// done again. `trusted`: who may have sealed what is in the spool. The record is signed anew, for it says when it came into the store.
    pub async fn carry(
        &self,
        spool: &dyn Store,
        name: WalName,
        trusted: &TrustedSigners,
        now: Timestamp,
    ) -> Result<Carried, CarryError> {
        // Whoever can write into the spool must not get a signature for it.
        let trusted = trusted.and(&self.signer);
        let Some(ours) = load_wal_record(spool, &self.policy, name, &trusted).await.map_err(here)? else {
            return Ok(Carried::Gone);
        };
        let placed = match self.there(name, &ours.plain_blake3).await? {
            Some(placed) => placed,
            None => {
                let found = sealed_wal(spool, &self.policy, name, &trusted).await.map_err(here)?;
                let Some((_, part, sealed)) = found else { return Ok(Carried::Gone) };
                check_sealed(&part, &sealed).map_err(|finding| CarryError::Found(vec![finding]))?;
                let key = self.put_object(name, sealed).await?;
                self.put_record(WalRecord { key, stored_at: Some(now), ..ours.clone() }).await?
            }
        };
        if let Placed::Differs(record) = placed {
            return Ok(Carried::Differs(record));
        }
        // What the store has is read back: until then this is the only one that is known to be good.
        let stored = match check_wal(&*self.store, &self.policy, name, &trusted, None).await {
            Ok(Some(record)) if record.plain_blake3 == ours.plain_blake3 => record,
            Ok(Some(record)) => return Ok(Carried::Differs(record)),
            Ok(None) => return Err(SealError::Refused(format!("{name} is gone from the store again")).into()),
            Err(Stop::Found(findings)) => return Err(CarryError::Found(findings)),
            Err(Stop::Broke(broke)) => return Err(CarryError::Store(SealError::Source(broke))),
        };
        let gone = async {
            spool.delete(&format!("{}/wal/{}", self.policy, ours.key)).await?;
            spool.delete(&record_key(&self.policy, name)).await
        };
        gone.await.map_err(|error| CarryError::Stays(error.into()))?;
        Ok(Carried::Stored(stored))
    }
}
