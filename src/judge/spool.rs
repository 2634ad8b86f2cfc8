//! What a spool says about a policy: what waits in it is not in the store.

use super::freshness::Standing;
use crate::domain::check::Broke;
use crate::domain::transcript::Verdict;
use crate::domain::wal::Waiting;

/// Adds to where a policy stands what waits in its spool. One that could not be looked at is not an empty one.
pub fn weigh(standing: &mut Standing, waiting: Result<&Option<Waiting>, &Broke>) {
    let sentence = match waiting {
        Ok(None) => return,
        Ok(Some(waiting)) => {
            let Waiting { files, bytes, since, .. } = waiting;
            let (noun, verb) = if *files == 1 { ("file", "waits") } else { ("files", "wait") };
            format!(
                "{files} {noun} of the log ({bytes}) {verb} in the spool since {since:.0}: the store does not have them"
            )
        }
        Err(broke) => format!("what waits for the store is not known: {}", broke.error),
    };
    if standing.verdict == Verdict::Proven {
        standing.verdict = Verdict::Unproven;
    }
    standing.wrong.push(sentence);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::sample::at;
    use crate::domain::units::ByteSize;

    #[test]
    fn what_waits_is_never_proven_and_makes_nothing_better() {
        let waiting = Some(Waiting {
            dir: "/spool".into(),
            files: 3,
            bytes: ByteSize(48 << 20),
            since: at("2026-01-31T03:00:00Z"),
            room: ByteSize(1),
            max: ByteSize(2),
        });
        for (before, after) in [
            (Verdict::Proven, Verdict::Unproven),
            (Verdict::Unproven, Verdict::Unproven),
            (Verdict::Failed, Verdict::Failed),
        ] {
            let mut one = Standing::bare(before);
            weigh(&mut one, Ok(&waiting));
            assert_eq!(one.verdict, after);
            assert_eq!(
                one.wrong,
                [
                    "3 files of the log (48.0 MiB) wait in the spool since 2026-01-31T03:00:00Z: the store does not have them"
                ]
            );
            let mut one = Standing::bare(before);
            weigh(&mut one, Err(&Broke::new("no right")));
            assert_eq!((one.verdict, one.wrong.len()), (after, 1));
            let mut one = Standing::bare(before);
            weigh(&mut one, Ok(&None));
            assert_eq!((one.verdict, one.wrong.len()), (before, 0));
        }
    }
}
