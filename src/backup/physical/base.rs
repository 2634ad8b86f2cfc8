//! `BASE_BACKUP` over the replication protocol.
//!
//! `pg_basebackup` cannot write more than one tablespace to its standard output; this can hand on any number of archives.

use bytes::{Buf, Bytes};
use postgres_protocol::message::frontend;

use crate::backup::wire::{Wire, garbled};
use crate::domain::check::Broke;

/// A piece of a base backup, in order.
#[derive(Debug)]
pub enum Piece {
    /// The archive of a tablespace begins; none: that of the data folder.
    Archive(Option<u32>),
    /// Bytes of the archive.
    Data(Bytes),
    /// Bytes of `backup_manifest`.
    Manifest(Bytes),
}

impl Wire {
    /// Takes a base backup with its WAL and its manifest; hands pieces on as they come. Returns after the server has said
    /// that the backup is complete; anything else is an error.
    pub async fn base_backup<F>(mut self, label: &str, major: u32, mut hand_on: F) -> Result<(), Broke>
    where
        F: AsyncFnMut(Piece) -> Result<(), Broke>,
    {
        // Checksums are verified here, where a wrong one does not end the backup of the only copy that there may be.
        let label = label.replace('\'', "''");
        let command = if major >= 15 {
            format!(
                "BASE_BACKUP (LABEL '{label}', CHECKPOINT 'fast', WAL, MANIFEST 'yes', MANIFEST_CHECKSUMS 'CRC32C', VERIFY_CHECKSUMS false)"
            )
        } else {
            format!(
                "BASE_BACKUP LABEL '{label}' FAST WAL NOVERIFY_CHECKSUMS MANIFEST 'yes' MANIFEST_CHECKSUMS 'CRC32C'"
            )
        };
        self.send(|out| frontend::query(&command, out)).await?;
        let mut results = 0;
        // Before 15 each tablespace is a COPY of its own, in the order of the second result.
        let mut archives: std::collections::VecDeque<Option<u32>> = std::collections::VecDeque::new();
        let mut in_manifest = false;
        let mut complete = false;
        loop {
            let (tag, mut body) = self.message().await?;
            match tag {
                b'T' => results += 1,
                b'D' if results == 2 => archives.push_back(first_column(&mut body)?),
                b'H' if major < 15 => match archives.pop_front() {
                    Some(oid) => hand_on(Piece::Archive(oid)).await?,
                    None => in_manifest = true,
                },
                b'd' if major < 15 && in_manifest => hand_on(Piece::Manifest(body)).await?,
                b'd' if major < 15 => hand_on(Piece::Data(body)).await?,
                b'd' => {
                    if body.is_empty() {
                        return Err(garbled("an empty message"));
                    }
                    match (body.get_u8(), in_manifest) {
                        (b'n', _) => hand_on(Piece::Archive(archive_of(&body)?)).await?,
                        (b'm', _) => in_manifest = true,
                        (b'd', true) => hand_on(Piece::Manifest(body)).await?,
                        (b'd', false) => hand_on(Piece::Data(body)).await?,
                        (b'p', _) => {}
                        (other, _) => return Err(garbled(&format!("a message of kind {}", other.escape_ascii()))),
                    }
                }
                // The third result, after all archives, is where the backup ends.
                b'C' if results == 3 => complete = true,
                b'Z' if complete => {
                    let _ = self
                        .send(|out| {
                            frontend::terminate(out);
                            Ok(())
                        })
                        .await;
                    return Ok(());
                }
                b'Z' => return Err(garbled("an end before the backup was complete")),
                _ => {}
            }
        }
    }
}

/// The tablespace's identifier in a row of the second result; NULL for the data folder.
fn first_column(row: &mut Bytes) -> Result<Option<u32>, Broke> {
    let wrong = || garbled("a row that cannot be read");
    if row.len() < 6 {
        return Err(wrong());
    }
    row.advance(2);
    let length = row.get_i32();
    if length < 0 {
        return Ok(None);
    }
    let text = usize::try_from(length).ok().and_then(|length| row.get(..length)).ok_or_else(wrong)?;
    std::str::from_utf8(text).ok().and_then(|text| text.parse().ok()).map(Some).ok_or_else(wrong)
}

/// `16400.tar` and the folder on the source, or `base.tar` and nothing.
fn archive_of(body: &[u8]) -> Result<Option<u32>, Broke> {
    let name = body.split(|byte| *byte == 0).next().and_then(|name| std::str::from_utf8(name).ok()).unwrap_or_default();
    match name.strip_suffix(".tar") {
        Some("base") => Ok(None),
        Some(oid) => oid.parse().map(Some).map_err(|_| garbled(&format!("an archive `{name}`"))),
        None => Err(garbled(&format!("an archive `{name}`"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn archives_and_rows_are_named() {
        assert_eq!(archive_of(b"16400.tar\0/srv/space\0").unwrap(), Some(16400));
        assert_eq!(archive_of(b"base.tar\0\0").unwrap(), None);
        for name in [b"".as_slice(), b"../x.tar\0", b"16400\0", b"\xff.tar\0"] {
            assert!(archive_of(name).is_err());
        }
        let mut row = Bytes::from_static(b"\0\x03\0\0\0\x0516400");
        assert_eq!(first_column(&mut row).unwrap(), Some(16400));
        let mut row = Bytes::from_static(b"\0\x03\xff\xff\xff\xff");
        assert_eq!(first_column(&mut row).unwrap(), None);
        assert!(first_column(&mut Bytes::from_static(b"\0\x03\0\0\0\x0916400")).is_err());
    }
}
