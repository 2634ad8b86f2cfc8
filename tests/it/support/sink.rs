//! A sink for the tar pump that keeps everything.

use lifeboat::backup::physical::pump::TarSink;
use lifeboat::domain::check::Broke;
use lifeboat::seal::Member;

/// The tar, and each member with the place where its data begins.
#[derive(Debug, Default)]
pub struct VecSink {
    pub bytes: Vec<u8>,
    pub members: Vec<(Member, usize)>,
}

impl TarSink for VecSink {
    fn write(&mut self, bytes: &[u8]) -> Result<(), Broke> {
        self.bytes.extend_from_slice(bytes);
        Ok(())
    }

    fn member(&mut self, member: Member) -> Result<(), Broke> {
        self.members.push((member, self.bytes.len()));
        Ok(())
    }
}
