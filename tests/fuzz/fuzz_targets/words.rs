//! Log positions, names, identities, times, sizes: what is read is printed as it can be read again.
#![no_main]

use std::fmt::{Debug, Display};
use std::str::FromStr;

use libfuzzer_sys::fuzz_target;
use lifeboat::domain::ids::{BackupId, DrillName, JobName, PlaceName, PolicyName, RunId};
use lifeboat::domain::lsn::Lsn;
use lifeboat::domain::units::{ByteSize, Span};

fn around<T: FromStr + Display + PartialEq + Debug>(text: &str)
where
    T::Err: Display,
{
    match text.parse::<T>() {
        Ok(value) => {
            let printed = value.to_string();
            let again =
                printed.parse::<T>().unwrap_or_else(|error| panic!("{text:?} is printed as {printed:?}: {error}"));
            assert_eq!(again, value, "{text:?} is printed as {printed:?}");
        }
        Err(error) => drop(error.to_string()),
    }
}

fuzz_target!(|text: &str| {
    around::<Lsn>(text);
    around::<RunId>(text);
    around::<BackupId>(text);
    around::<PolicyName>(text);
    around::<JobName>(text);
    around::<DrillName>(text);
    around::<PlaceName>(text);
    if let Ok(backup) = text.parse::<BackupId>() {
        let _ = backup.began_at();
    }
    if let Ok(span) = text.parse::<Span>() {
        let _ = (span.to_string(), span.saturating_add(span), span.as_secs_f64());
    }
    if let Ok(size) = text.parse::<ByteSize>() {
        let _ = size.to_string();
    }
});
