//! Bytes that the sealing threads get for themselves: where they lie, where they are cut, and what is refused.

use std::sync::mpsc::{Receiver, channel};
use std::sync::{Arc, Mutex};

use lifeboat::domain::artifact::{MemberKind, Stream, StreamKind};
use lifeboat::domain::check::Broke;
use lifeboat::seal::{Fill, Member, SealError};

use crate::support::artifacts::{Yard, blocking, noise};

/// Known bytes, and which pieces of them were asked for.
struct Known {
    bytes: Vec<u8>,
    asked: Mutex<Vec<(u64, usize)>>,
}

impl Known {
    fn new(seed: u64, length: usize) -> Arc<Known> {
        Arc::new(Known { bytes: noise(seed, length), asked: Mutex::default() })
    }
}

impl Fill for Known {
    fn fill(&self, offset: u64, into: &mut [u8]) -> Result<(), Broke> {
        self.asked.lock().unwrap().push((offset, into.len()));
        let at = usize::try_from(offset).unwrap();
        let piece =
            self.bytes.get(at..at + into.len()).ok_or_else(|| Broke::new("more was asked for than there is"))?;
        into.copy_from_slice(piece);
        Ok(())
    }
}

fn member(path: &str, size: usize) -> Member {
    Member { path: path.to_owned(), kind: MemberKind::File, mode: 0o600, size: size as u64 }
}

/// The plaintexts of all parts.
fn opened(yard: &Yard, stream: &Stream) -> Vec<Vec<u8>> {
    let open = |part: &lifeboat::domain::artifact::Part| {
        yard.opener.open_part(part, &std::fs::read(yard.path(&format!("orders/x/{}", part.key))).unwrap()).unwrap()
    };
    stream.parts.iter().map(open).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn they_lie_where_they_belong_and_no_grain_is_cut() {
    const GRAIN: usize = 100;
    for part_bytes in [100, 101, 250, 1_000, 1_049, 100_000] {
        for lengths in [vec![1], vec![100], vec![99, 101], vec![950, 0, 1_000], vec![1_000, 3_333, 7], vec![200; 12]] {
            let yard = Yard::new();
            let sealer = yard.sealer("orders/x", part_bytes);
            let sources: Vec<Arc<Known>> = lengths.iter().map(|length| Known::new(*length as u64, *length)).collect();
            let (given, sizes) = (sources.clone(), lengths.clone());
            let stream = blocking(move || {
                let mut writer = sealer.stream("base", StreamKind::Tar);
                assert_eq!(writer.part_bytes(), part_bytes);
                for (at, (length, source)) in sizes.iter().zip(&given).enumerate() {
                    writer.write(&[b'h'; 13]).unwrap();
                    writer.member(member(&format!("f{at}"), *length)).unwrap();
                    let fill: Arc<dyn Fill> = source.clone();
                    if *length > 0 {
                        writer.write_later(*length as u64, GRAIN, &fill).unwrap();
                    }
                    writer.write(&[b'p'; 3]).unwrap();
                }
                writer.finish().unwrap()
            })
            .await;
            let mut expected = vec![];
            for source in &sources {
                expected.extend([b'h'; 13]);
                expected.extend(&source.bytes);
                expected.extend([b'p'; 3]);
            }
            let plain = opened(&yard, &stream);
            assert!(plain.concat() == expected, "{part_bytes} {lengths:?}");
            assert_eq!(stream.plain_bytes, expected.len() as u64);
            // No part is larger than it may be, and none is smaller than it must be: less than a grain is left free.
            assert!(plain.iter().all(|part| part.len() <= part_bytes), "{part_bytes} {lengths:?}");
            let all_but_last = &plain[..plain.len() - 1];
            assert!(all_but_last.iter().all(|part| part.len() + GRAIN > part_bytes), "{part_bytes} {lengths:?}");
            for (part, bytes) in stream.parts.iter().zip(&plain) {
                for slice in &part.members {
                    let source = &sources[slice.path[1..].parse::<usize>().unwrap()];
                    let (at, offset, length) = (slice.at as usize, slice.offset as usize, slice.bytes as usize);
                    assert_eq!(bytes[at..at + length], source.bytes[offset..offset + length]);
                    assert!(offset % GRAIN == 0, "{part_bytes} {lengths:?}: cut at {offset}");
                }
            }
            // Each byte was asked for once.
            for source in sources {
                let mut asked = source.asked.lock().unwrap().clone();
                asked.sort_unstable();
                let mut next = 0;
                for (offset, length) in asked {
                    assert_eq!(offset, next);
                    next += length as u64;
                }
                assert_eq!(next, source.bytes.len() as u64);
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn more_than_the_member_has_and_grains_that_do_not_fit_are_refused() {
    let yard = Yard::new();
    let sealer = yard.sealer("orders/x", 1_000);
    blocking(move || {
        let fill: Arc<dyn Fill> = Known::new(1, 10_000);
        let mut writer = sealer.stream("base", StreamKind::Tar);
        assert!(writer.write_later(1, 1, &fill).is_err(), "no member is open");
        writer.member(member("f", 600)).unwrap();
        writer.write(&[0; 100]).unwrap();
        for (bytes, grain) in [(501, 1), (500, 0), (500, 1_001)] {
            assert!(writer.write_later(bytes, grain, &fill).is_err(), "{bytes} {grain}");
        }
        // Nothing of that was taken: all of what is left still fits.
        writer.write_later(500, 1_000, &fill).unwrap();
        assert!(writer.write_later(1, 1, &fill).is_err(), "the member is whole");
        assert_eq!(writer.finish().unwrap().plain_bytes, 600);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_settled_is_stored() {
    let yard = Yard::new();
    let sealer = yard.sealer("orders/x", 1_000);
    let source = Known::new(1, 300);
    let (fill, store, runtime) = (source.clone(), yard.store.clone(), tokio::runtime::Handle::current());
    let stream = blocking(move || {
        let stored = || runtime.block_on(store.list("orders/x/")).unwrap().len();
        let fill: Arc<dyn Fill> = fill;
        let mut writer = sealer.stream("base", StreamKind::Tar);
        writer.settle().unwrap();
        assert_eq!(stored(), 0, "there is nothing to be stored");
        writer.member(member("f", 300)).unwrap();
        writer.write_later(300, 100, &fill).unwrap();
        writer.settle().unwrap();
        assert_eq!(stored(), 1);
        writer.settle().unwrap();
        assert_eq!(stored(), 1, "once is enough");
        writer.write(b"more").unwrap();
        writer.settle().unwrap();
        writer.write(b"end").unwrap();
        writer.finish().unwrap()
    })
    .await;
    let plain = opened(&yard, &stream);
    assert_eq!(plain, [source.bytes.clone(), b"more".to_vec(), b"end".to_vec()]);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_had_ends_the_stream() {
    let yard = Yard::new();
    let sealer = yard.sealer("orders/x", 1_000);
    let error = blocking(move || {
        let short: Arc<dyn Fill> = Known::new(1, 10);
        let mut writer = sealer.stream("base", StreamKind::Tar);
        writer.member(member("f", 300)).unwrap();
        writer.write_later(300, 100, &short).unwrap();
        writer.finish().unwrap_err()
    })
    .await;
    assert!(error.to_string().contains("more was asked for"), "{error}");
    assert!(yard.store.list("orders/x/").await.unwrap().is_empty());
}

/// A source of which the first part cannot be read, and the others only once the gate is open.
struct Gated {
    gate: Mutex<Receiver<()>>,
}

impl Fill for Gated {
    fn fill(&self, offset: u64, into: &mut [u8]) -> Result<(), Broke> {
        if offset == 0 {
            return Err(Broke::new("the first part is gone"));
        }
        self.gate.lock().unwrap().recv().map_err(|_| Broke::new("the test is over"))?;
        into.fill(7);
        Ok(())
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn after_a_failure_nothing_more_is_taken_and_what_is_on_its_way_is_not_stored() {
    let yard = Yard::new();
    let sealer = yard.sealer("orders/x", 100);
    let (open, gate) = channel();
    blocking(move || {
        let fill: Arc<dyn Fill> = Arc::new(Gated { gate: Mutex::new(gate) });
        let mut writer = sealer.stream("base", StreamKind::Tar);
        // Dropped before the writer, which waits for its parts.
        let open = open;
        writer.member(member("f", 250)).unwrap();
        // Two parts are on their way, and half of a third one waits.
        writer.write_later(250, 100, &fill).unwrap();
        let cause = loop {
            match writer.write(&[]) {
                Ok(()) => std::thread::yield_now(),
                Err(error) => break error.to_string(),
            }
        };
        assert!(cause.contains("the first part is gone"), "{cause}");
        // The cause was given; from here on each call says that the stream has stopped, though another part is still on its way.
        assert!(matches!(writer.write(b"more"), Err(SealError::Stopped)));
        assert!(matches!(writer.write_later(0, 1, &fill), Err(SealError::Stopped)));
        assert!(matches!(writer.member(member("g", 1)), Err(SealError::Stopped)));
        open.send(()).unwrap();
        // Until the second part is dealt with: then only this and the half that waits know the source.
        while Arc::strong_count(&fill) > 2 {
            std::thread::yield_now();
        }
        assert!(matches!(writer.settle(), Err(SealError::Stopped)));
        assert!(matches!(writer.finish(), Err(SealError::Stopped)));
    })
    .await;
    assert!(yard.store.list("orders/x/").await.unwrap().is_empty(), "the second part was not wanted any more");
}
