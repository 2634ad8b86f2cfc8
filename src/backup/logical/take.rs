//! Takes a logical backup.

use crate::backup::{Taken, Taking};
use crate::domain::check::Broke;

/// Dumps globals and databases under exported snapshots, with their fingerprint.
pub async fn take(taking: &Taking<'_>) -> Result<Taken, Broke> {
    let _ = taking;
    todo!()
}
