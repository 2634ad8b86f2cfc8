//! Whether PostgreSQL's programs are new enough to be trusted with a dump that somebody may have tampered with.

use serde::Deserialize;

use crate::domain::check::Finding;
use crate::domain::inventory::Server;

/// The minor releases that close restore-time code execution: a data file, so that it can be updated without touching code.
const SAFE_MINORS: &str = include_str!("safe-minors.toml");

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct SafeMinors {
    as_of: String,
    release: Vec<Release>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Release {
    major: u32,
    minor: u32,
}

/// A finding of the source, if it keeps no page checksums: damage on its disks goes into every backup unseen.
pub fn blind_source(server: &Server) -> Option<Finding> {
    let message = "the source keeps no page checksums: a page that its disk damages is backed up, copied and dumped without a word; stop it and run pg_checksums --enable";
    let object = format!("source, PostgreSQL {}", server.version.split(' ').next().unwrap_or_default());
    (!server.data_checksums).then(|| Finding::new("source_checksums_off", object, message).with("on", "off"))
}

/// A finding of the environment, if the programs of `version` (`15.18`) are older than the release that is known to be
/// safe, or belong to a major version that gets no fixes any more.
pub fn outdated(version: &str) -> Option<Finding> {
    let known: SafeMinors = match toml::from_str(SAFE_MINORS) {
        Ok(known) => known,
        Err(error) => {
            return Some(Finding::new(
                "tools_unknown",
                "safe-minors.toml",
                format!("the list cannot be read: {error}"),
            ));
        }
    };
    let mut numbers = version.split(|letter: char| !letter.is_ascii_digit()).map(|digits| digits.parse::<u32>().ok());
    let object = format!("PostgreSQL programs {version}");
    let (Some(Some(major)), Some(Some(minor))) = (numbers.next(), numbers.next()) else {
        return Some(Finding::new("tools_unknown", object, "their version could not be read"));
    };
    let oldest = known.release.iter().map(|release| release.major).min().unwrap_or(0);
    match known.release.iter().find(|release| release.major == major) {
        Some(release) if minor < release.minor => {
            let message =
                "older than the minor release that closes code execution while a dump is restored: update them";
            let wanted = format!("{major}.{} or newer (as of {})", release.minor, known.as_of);
            Some(Finding::new("tools_outdated", object, message).with(wanted, version))
        }
        Some(_) => None,
        None if major < oldest => {
            let message = "this major version gets no security fixes any more";
            Some(Finding::new("tools_outdated", object, message).with(format!("{oldest} or newer"), version))
        }
        None => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::sample;

    #[test]
    fn a_source_without_checksums_is_named() {
        let server = |data_checksums| Server { data_checksums, ..sample::manifest().fingerprint.server };
        assert_eq!(blind_source(&server(true)), None);
        let finding = blind_source(&server(false)).unwrap();
        assert_eq!(
            (finding.code.as_str(), finding.expected.as_deref(), finding.found.as_deref()),
            ("source_checksums_off", Some("on"), Some("off"))
        );
        assert!(
            finding.object.starts_with("source, PostgreSQL 1") && !finding.object.contains('('),
            "{}",
            finding.object
        );
    }

    #[test]
    fn old_minor_releases_are_found() {
        for (version, code) in [
            ("15.19", Some("tools_outdated")),
            ("15.20", None),
            ("15.21", None),
            ("18.6", Some("tools_outdated")),
            ("18.7", None),
            ("19.0", None),
            ("13.99", Some("tools_outdated")),
            ("19beta1", Some("tools_unknown")),
            ("", Some("tools_unknown")),
        ] {
            assert_eq!(outdated(version).map(|finding| finding.code), code.map(str::to_owned), "{version}");
        }
    }
}
