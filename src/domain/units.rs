//! Durations and sizes as people write them.

use std::fmt;
use std::str::FromStr;

use jiff::SignedDuration;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// A length of time. Parses and prints in human form (`5m`, `1h 30m`, `14d`); in JSON it is a number of seconds.
///
/// A day is always 24 hours and a week seven days: objectives are physical durations, not calendar ones.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Span(pub SignedDuration);

impl Span {
    /// No time at all.
    pub const ZERO: Span = Span(SignedDuration::ZERO);

    /// From whole seconds.
    pub const fn from_secs(seconds: i64) -> Span {
        Span(SignedDuration::from_secs(seconds))
    }

    /// From milliseconds.
    pub const fn from_millis(milliseconds: i64) -> Span {
        Span(SignedDuration::from_millis(milliseconds))
    }

    /// From a monotonic measurement.
    pub fn from_std(duration: std::time::Duration) -> Span {
        Span(SignedDuration::try_from(duration).unwrap_or(SignedDuration::MAX))
    }

    /// As a standard duration; a negative span is zero.
    pub fn to_std(self) -> std::time::Duration {
        std::time::Duration::try_from(self.0).unwrap_or_default()
    }

    /// Seconds, with fraction.
    pub fn as_secs_f64(self) -> f64 {
        self.0.as_secs_f64()
    }

    /// The sum, saturating at the ends of the range.
    pub fn saturating_add(self, other: Span) -> Span {
        Span(self.0.saturating_add(other.0))
    }

    /// The time from `earlier` to `later`.
    pub fn between(earlier: jiff::Timestamp, later: jiff::Timestamp) -> Span {
        Span(later.duration_since(earlier))
    }
}

impl std::iter::Sum for Span {
    fn sum<I: Iterator<Item = Span>>(iter: I) -> Span {
        iter.fold(Span::ZERO, Span::saturating_add)
    }
}

/// Why a text is not a duration.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{text}` is not a duration")]
pub struct BadSpan {
    /// What was written.
    pub text: String,
}

impl FromStr for Span {
    type Err = BadSpan;

    fn from_str(text: &str) -> Result<Span, BadSpan> {
        let bad = || BadSpan { text: text.to_owned() };
        let mut total = SignedDuration::ZERO;
        let mut rest = text.trim();
        if rest.is_empty() {
            return Err(bad());
        }
        while !rest.is_empty() {
            let digits = rest.find(|c: char| !c.is_ascii_digit()).ok_or_else(bad)?;
            let amount: i64 = rest.get(..digits).and_then(|d| d.parse().ok()).ok_or_else(bad)?;
            rest = rest.get(digits..).ok_or_else(bad)?.trim_start();
            let letters = rest.find(|c: char| !c.is_ascii_alphabetic()).unwrap_or(rest.len());
            let (unit, tail) = rest.split_at(letters);
            let milliseconds: i64 = match unit {
                "ms" => 1,
                "s" | "sec" | "second" | "seconds" => 1_000,
                "m" | "min" | "minute" | "minutes" => 60_000,
                "h" | "hour" | "hours" => 3_600_000,
                "d" | "day" | "days" => 86_400_000,
                "w" | "week" | "weeks" => 604_800_000,
                _ => return Err(bad()),
            };
            let part = amount.checked_mul(milliseconds).ok_or_else(bad)?;
            total = total.checked_add(SignedDuration::from_millis(part)).ok_or_else(bad)?;
            rest = tail.trim_start();
        }
        Ok(Span(total))
    }
}

impl fmt::Display for Span {
    /// The two largest units that matter: `3d 4h`, `12m 5s`, `4.2s`, `87ms`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let milliseconds = self.0.as_millis();
        if milliseconds < 0 {
            f.write_str("-")?;
        }
        let milliseconds = milliseconds.unsigned_abs();
        if milliseconds == 0 {
            return f.pad("0s");
        }
        if milliseconds < 1_000 {
            return write!(f, "{milliseconds}ms");
        }
        let seconds = milliseconds / 1_000;
        if seconds < 10 && milliseconds % 1_000 >= 100 {
            return write!(f, "{}.{}s", seconds, (milliseconds % 1_000) / 100);
        }
        let units = [(86_400, "d"), (3_600, "h"), (60, "m"), (1, "s")];
        let first = units.iter().position(|(size, _)| seconds >= *size).unwrap_or(3);
        let (size, name) = units[first];
        write!(f, "{}{}", seconds / size, name)?;
        if let Some((next, next_name)) = units.get(first + 1) {
            let rest = (seconds % size) / next;
            if rest > 0 {
                write!(f, " {rest}{next_name}")?;
            }
        }
        Ok(())
    }
}

impl Serialize for Span {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_f64(self.0.as_millis() as f64 / 1_000.0)
    }
}

impl<'de> Deserialize<'de> for Span {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Span, D::Error> {
        let seconds = f64::deserialize(deserializer)?;
        let read = SignedDuration::try_from_secs_f64(seconds).map_err(serde::de::Error::custom)?;
        // To the millisecond, as it is written: what is read and written again is the same.
        let nearest = (read.as_nanos() + read.as_nanos().signum() * 500_000) / 1_000_000;
        let millis = i64::try_from(nearest).map_err(serde::de::Error::custom)?;
        Ok(Span(SignedDuration::from_millis(millis)))
    }
}

/// A number of bytes. Parses `64 MiB`, `10GB`, `4096`; prints in powers of 1024 with one decimal; in JSON a number.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct ByteSize(pub u64);

/// Why a text is not a size.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{text}` is not a size in bytes")]
pub struct BadByteSize {
    /// What was written.
    pub text: String,
}

impl FromStr for ByteSize {
    type Err = BadByteSize;

    fn from_str(text: &str) -> Result<ByteSize, BadByteSize> {
        let bad = || BadByteSize { text: text.to_owned() };
        let trimmed = text.trim();
        let digits = trimmed.find(|c: char| !c.is_ascii_digit()).unwrap_or(trimmed.len());
        let (number, unit) = trimmed.split_at(digits);
        let amount: u64 = number.parse().map_err(|_| bad())?;
        let factor: u64 = match unit.trim().to_ascii_lowercase().as_str() {
            "" | "b" => 1,
            "kb" => 1_000,
            "mb" => 1_000_000,
            "gb" => 1_000_000_000,
            "tb" => 1_000_000_000_000,
            "k" | "kib" => 1 << 10,
            "m" | "mib" => 1 << 20,
            "g" | "gib" => 1 << 30,
            "t" | "tib" => 1 << 40,
            _ => return Err(bad()),
        };
        amount.checked_mul(factor).map(ByteSize).ok_or_else(bad)
    }
}

impl fmt::Display for ByteSize {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let units = ["B", "KiB", "MiB", "GiB", "TiB", "PiB"];
        let mut value = self.0 as f64;
        let mut unit = 0;
        while value >= 1024.0 && unit + 1 < units.len() {
            value /= 1024.0;
            unit += 1;
        }
        if unit == 0 { write!(f, "{} B", self.0) } else { write!(f, "{value:.1} {}", units[unit]) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_read_is_written_again_as_it_was() {
        for (text, written) in [
            ("0.1148", "0.115"),
            ("1.001", "1.001"),
            ("-0.0006", "-0.001"),
            ("86400.0", "86400.0"),
            ("31536000.123", "31536000.123"),
        ] {
            let read: Span = serde_json::from_str(text).unwrap();
            let again = serde_json::to_string(&read).unwrap();
            assert_eq!(again, written);
            assert_eq!(serde_json::from_str::<Span>(&again).unwrap(), read);
        }
        assert!(serde_json::from_str::<Span>("1e300").is_err() && serde_json::from_str::<Span>("9e18").is_err());
    }

    #[test]
    fn durations_are_read_and_printed() {
        for (text, milliseconds, printed) in [
            ("5m", 300_000, "5m"),
            ("200ms", 200, "200ms"),
            ("1h30m", 5_400_000, "1h 30m"),
            ("1h 30m", 5_400_000, "1h 30m"),
            ("14d", 1_209_600_000, "14d"),
            ("2 weeks", 1_209_600_000, "14d"),
            ("0s", 0, "0s"),
            ("3661s", 3_661_000, "1h 1m"),
        ] {
            let span: Span = text.parse().unwrap();
            assert_eq!(span.0.as_millis(), milliseconds, "{text}");
            assert_eq!(span.to_string(), printed, "{text}");
        }
        for text in ["", "5", "m", "5x", "-5m", "5m!", "1.5h", "99999999999999999999d", "9223372036854775807w", "5 m é"]
        {
            assert!(text.parse::<Span>().is_err(), "{text:?} must be refused");
        }
        assert_eq!(Span::from_millis(4_234).to_string(), "4.2s");
        assert_eq!(Span::from_millis(-90_000).to_string(), "-1m 30s");
    }

    #[test]
    fn a_span_survives_json_to_the_millisecond() {
        let span = Span::from_millis(1_234_567);
        let back: Span = serde_json::from_str(&serde_json::to_string(&span).unwrap()).unwrap();
        assert_eq!(back, span);
    }

    #[test]
    fn sizes_are_read_and_printed() {
        for (text, bytes, printed) in [
            ("4096", 4096, "4.0 KiB"),
            ("16 MiB", 16 << 20, "16.0 MiB"),
            ("16M", 16 << 20, "16.0 MiB"),
            ("10GB", 10_000_000_000, "9.3 GiB"),
            ("512 B", 512, "512 B"),
        ] {
            let size: ByteSize = text.parse().unwrap();
            assert_eq!(size.0, bytes, "{text}");
            assert_eq!(size.to_string(), printed, "{text}");
        }
        for text in ["", "MiB", "-1", "1.5GB", "1 QB", "99999999999999999999"] {
            assert!(text.parse::<ByteSize>().is_err(), "{text:?} must be refused");
        }
    }
}
