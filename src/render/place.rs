//! Where an artifact lies, as people are told of it.

use crate::domain::bucket::Bucket;
use crate::domain::config::{Config, StoreConfig, StorePlace};
use crate::domain::run::ArtifactRecord;

use super::instruct::quote;

/// Where a person brings what lies in a bucket, before the steps by hand.
const FETCHED: &str = "/var/tmp/lifeboat-store";

fn bucket<'a>(config: &'a Config, record: &ArtifactRecord) -> Option<&'a Bucket> {
    match config.stores.get(&record.store) {
        Some(StoreConfig { place: StorePlace::S3(bucket), .. }) => Some(bucket),
        Some(StoreConfig { place: StorePlace::File { .. }, .. }) | None => None,
    }
}

/// What `--store` takes.
pub(super) fn address(config: &Config, record: &ArtifactRecord) -> String {
    bucket(config, record).map_or_else(|| folder(config, record), Bucket::address)
}

/// The folder in which the steps by hand find it.
pub(super) fn folder(config: &Config, record: &ArtifactRecord) -> String {
    match config.stores.get(&record.store) {
        Some(StoreConfig { place: StorePlace::File { path }, .. }) => path.display().to_string(),
        Some(StoreConfig { place: StorePlace::S3(_), .. }) => FETCHED.to_owned(),
        None => format!("STORE-{}", record.store),
    }
}

/// The commands that bring it there first; none: it is there.
pub(super) fn fetch(config: &Config, record: &ArtifactRecord) -> Option<String> {
    let bucket = bucket(config, record)?;
    let mut command = String::from("aws s3 cp --recursive");
    if let Some(endpoint) = &bucket.endpoint {
        command.push_str(&format!(" --endpoint-url {}", quote(endpoint)));
    }
    if let Some(region) = &bucket.region {
        command.push_str(&format!(" --region {}", quote(region)));
    }
    let policy = &record.policy;
    let lines = [record.backup.as_str(), "wal"].map(|part| {
        let from = quote(&format!("s3://{}/{}", bucket.bucket, bucket.whole_key(&format!("{policy}/{part}/"))));
        format!("{command} {from} {FETCHED}/{policy}/{part}")
    });
    Some(format!(
        "# it lies in a bucket: with credentials that may read it, fetch it first; the second line is the log\n{}\n",
        lines.join("\n")
    ))
}
