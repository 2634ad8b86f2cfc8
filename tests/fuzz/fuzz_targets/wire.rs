//! What answers on the port where PostgreSQL should: the bytes of a whole replication conversation. The first byte chooses
//! the server's version, the second whether the bytes come in pieces.
#![no_main]

use std::pin::Pin;
use std::task::{Context, Poll};

use libfuzzer_sys::fuzz_target;
use lifeboat::backup::physical::base::Piece;
use lifeboat::backup::wal::Said;
use lifeboat::backup::wire::Wire;
use lifeboat::domain::lsn::Lsn;
use lifeboat::probe::Endpoint;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// Says what it was given, then hangs up; hears nothing.
struct Script {
    bytes: Vec<u8>,
    at: usize,
    step: usize,
}

impl AsyncRead for Script {
    fn poll_read(mut self: Pin<&mut Self>, _: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<std::io::Result<()>> {
        let now = (self.bytes.len() - self.at).min(self.step).min(buffer.remaining());
        buffer.put_slice(&self.bytes[self.at..self.at + now]);
        self.at += now;
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Script {
    fn poll_write(self: Pin<&mut Self>, _: &mut Context<'_>, bytes: &[u8]) -> Poll<std::io::Result<usize>> {
        Poll::Ready(Ok(bytes.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

fuzz_target!(|data: &[u8]| {
    let [version, step, said @ ..] = data else { return };
    let endpoint = Endpoint::parse("postgresql://boss@db.example.org/postgres").expect("a URL");
    let script = Script { bytes: said.to_vec(), at: 0, step: if step & 1 == 0 { usize::MAX } else { 3 } };
    let major = if version & 1 == 0 { 15 } else { 13 };
    let streams = version & 2 != 0;
    let talk = async {
        let mut wire = Wire::over(script, &endpoint).await?;
        if streams {
            wire.identify().await?;
            wire.history(2).await?;
            wire.receive("lifeboat_orders", Lsn(1 << 24), 1).await?;
            let mut heard = 0;
            loop {
                match wire.hear().await? {
                    Said::Log { at, bytes, .. } => {
                        heard += bytes.len();
                        assert!(heard <= said.len() && at.0.checked_add(bytes.len() as u64).is_some());
                    }
                    Said::Alive { .. } => {}
                    Said::Ended(_) => return Ok(()),
                }
            }
        }
        let mut given = 0;
        wire.base_backup("fuzz", major, async |piece| {
            given += match &piece {
                Piece::Archive(_) => 0,
                Piece::Data(bytes) | Piece::Manifest(bytes) => bytes.len(),
            };
            Ok(())
        })
        .await?;
        assert!(given <= said.len(), "more came out than went in");
        Ok::<_, lifeboat::domain::check::Broke>(())
    };
    let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
    let _ = runtime.block_on(talk);
});
