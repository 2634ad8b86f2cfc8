//! Takes a physical backup.

use crate::backup::{Taken, Taking};
use crate::domain::check::Broke;

/// Streams a base backup with its WAL, verifying page checksums as the bytes pass.
pub async fn take(taking: &Taking<'_>) -> Result<Taken, Broke> {
    let _ = taking;
    todo!()
}
