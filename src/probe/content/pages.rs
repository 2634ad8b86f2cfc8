//! A sample by pages: which are read and hashed, and which are only counted.

use crate::domain::inventory::Pages;

/// One stretch is drawn in each so many pages: 128 MiB of 8 KiB pages. Both sides of a comparison must cut alike: it is never changed.
pub(super) const EVERY: u64 = 16_384;

/// A range of pages: from the first to before the second, or to the end.
pub(super) type Range = (u64, Option<u64>);

/// All pages of a table in order, and of each range whether its rows are hashed. The last range is only counted and open: a table may have grown since.
pub(super) fn cut(pages: Pages, percent: u8) -> Vec<(bool, Range)> {
    let mut ranges = Vec::new();
    let mut counted_from = 0;
    let blocks = u64::from(pages.blocks);
    for number in 0..blocks.div_ceil(EVERY) {
        let first = number * EVERY;
        let span = EVERY.min(blocks - first);
        let length = (span * u64::from(percent.min(100))).div_ceil(100);
        let from = first + drawn(pages.seed, number) % (span - length + 1);
        if from > counted_from {
            ranges.push((false, (counted_from, Some(from))));
        }
        ranges.push((true, (from, Some(from + length))));
        counted_from = from + length;
    }
    ranges.push((false, (counted_from, None)));
    ranges
}

fn drawn(seed: u32, number: u64) -> u64 {
    let mut hasher = blake3::Hasher::new_derive_key("lifeboat lb2: the place of a stretch of pages");
    hasher.update(&seed.to_be_bytes()).update(&number.to_be_bytes());
    let mut bytes = [0; 8];
    hasher.finalize_xof().fill(&mut bytes);
    u64::from_be_bytes(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_page_is_in_one_range_and_so_many_are_hashed() {
        for blocks in [0, 1, 2, 99, 100, EVERY - 1, EVERY, EVERY + 1, 5 * EVERY + 7] {
            for percent in [1, 5, 33, 99] {
                for seed in [0, 1, u32::MAX] {
                    let ranges = cut(Pages { blocks: u32::try_from(blocks).unwrap(), seed }, percent);
                    let says = format!("{blocks} pages, {percent} %, seed {seed}: {ranges:?}");
                    let mut next = 0;
                    let (last, closed) = ranges.split_last().unwrap();
                    for (_, (from, to)) in closed {
                        assert!(*from == next && to.is_some_and(|to| to > next && to <= blocks), "{says}");
                        next = to.unwrap();
                    }
                    assert!(!last.0 && last.1 == (next, None) && next <= blocks, "{says}");
                    let hashed: u64 = closed.iter().filter(|one| one.0).map(|(_, (from, to))| to.unwrap() - from).sum();
                    let wanted = blocks * u64::from(percent);
                    assert!(hashed * 100 >= wanted && hashed <= wanted / 100 + blocks.div_ceil(EVERY) + 1, "{says}");
                    assert_eq!(closed.iter().filter(|one| one.0).count() as u64, blocks.div_ceil(EVERY), "{says}");
                }
            }
        }
    }

    #[test]
    fn the_same_seed_draws_the_same_places_in_every_version_and_another_one_others() {
        let hashed = |seed| {
            let ranges = cut(Pages { blocks: 2 * 16_384 + 100, seed }, 1);
            ranges.into_iter().filter(|one| one.0).map(|one| one.1.0).collect::<Vec<_>>()
        };
        // Worked out apart from this code. With other numbers the drill of an older backup would compare other rows.
        assert_eq!(hashed(7), [3191, 28_419, 32_852]);
        assert_ne!(hashed(7), hashed(8));
        // In time every page has its turn.
        let seen: std::collections::BTreeSet<u64> = (0..2_000)
            .map(|seed| cut(Pages { blocks: 10, seed }, 10)[..].iter().find(|one| one.0).unwrap().1.0)
            .collect();
        assert_eq!(seen, (0..10).collect());
    }
}
