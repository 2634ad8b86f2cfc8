//! An S3 bucket as a store: where it is, as whom it is spoken to, how objects are written.

use std::path::PathBuf;

use jiff::Timestamp;

use super::units::{ByteSize, Span};

/// A bucket, or a part of one.
#[derive(Clone, Debug, PartialEq)]
pub struct Bucket {
    /// The bucket's name.
    pub bucket: String,
    /// What every key begins with, without a `/` at its end; empty: the whole bucket.
    pub prefix: String,
    /// The region; none: as the credential chain says.
    pub region: Option<String>,
    /// Where the service is; none: Amazon's own.
    pub endpoint: Option<String>,
    /// The bucket's name in the path instead of in the host's name.
    pub path_style: bool,
    /// Certificate authorities in PEM form, instead of the machine's own.
    pub ca: Option<PathBuf>,
    /// As whom, for every duty that has no login of its own.
    pub login: Login,
    /// As whom, for backups.
    pub backup: Option<Login>,
    /// As whom, for deletions.
    pub prune: Option<Login>,
    /// Checksums in requests beyond what an operation demands; some servers that are not Amazon's refuse them.
    pub checksums: bool,
    /// Whether the server is asked to refuse a write to a key that is there; else it is looked at first.
    pub conditional_writes: bool,
    /// Whether every object is read back and compared after it was written.
    pub read_back: bool,
    /// How objects are encrypted by the server, beside our own encryption.
    pub encryption: ServerEncryption,
    /// The storage class; none: the bucket's own.
    pub storage_class: Option<String>,
    /// Tags of every object.
    pub tags: Vec<(String, String)>,
    /// Objects above twice this size are written in pieces of it.
    pub piece: ByteSize,
    /// Requests at once.
    pub parallel: usize,
    /// How long, and how often.
    pub patience: Patience,
    /// Whether objects get a retention of the policy's `[lock]`.
    pub locked: bool,
    /// The bucket as it was at this moment, from its object versions: only to read. None: as it is.
    pub as_of: Option<Timestamp>,
}

/// As whom a bucket is spoken to. Nothing said: the usual chain of environment, profile, web identity, container, machine.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Login {
    /// A profile of the shared AWS configuration, or of the file.
    pub profile: Option<String>,
    /// A file of credentials in AWS's own form, mode 0600, instead of the shared ones.
    pub file: Option<PathBuf>,
    /// A role to assume with what the chain gave.
    pub role: Option<String>,
    /// The external identifier that the role asks for.
    pub external_id: Option<String>,
    /// The environment variables that hold key and secret.
    pub env: Option<(String, String)>,
}

/// How objects are encrypted by the server.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum ServerEncryption {
    /// As the bucket says.
    #[default]
    Bucket,
    /// With the service's own keys (SSE-S3).
    S3,
    /// With a key of AWS KMS (SSE-KMS); none: the account's own for S3.
    Kms(Option<String>),
}

/// How long is waited, and how often something is tried again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Patience {
    /// Longest time to wait for a connection.
    pub connect: Span,
    /// Longest time to wait for an answer to one request, and for the next bytes of one.
    pub read: Span,
    /// Longest time for one operation with all its attempts.
    pub operation: Span,
    /// How often one request is tried in all.
    pub attempts: u32,
    /// The longest pause before the second attempt; it doubles with each.
    pub backoff: Span,
}

impl Default for Patience {
    fn default() -> Patience {
        Patience {
            connect: Span::from_secs(5),
            read: Span::from_secs(60),
            operation: Span::from_secs(600),
            attempts: 6,
            backoff: Span::from_secs(1),
        }
    }
}

impl Bucket {
    /// A bucket by its name, all else as it is when nothing is said.
    pub fn named(bucket: &str, prefix: &str) -> Bucket {
        Bucket {
            bucket: bucket.to_owned(),
            prefix: prefix.to_owned(),
            region: None,
            endpoint: None,
            path_style: false,
            ca: None,
            login: Login::default(),
            backup: None,
            prune: None,
            checksums: true,
            conditional_writes: true,
            read_back: false,
            encryption: ServerEncryption::Bucket,
            storage_class: None,
            tags: Vec::new(),
            piece: ByteSize(16 << 20),
            parallel: 8,
            patience: Patience::default(),
            locked: false,
            as_of: None,
        }
    }

    /// How people name it.
    pub fn url(&self) -> String {
        let slash = if self.prefix.is_empty() { "" } else { "/" };
        format!("s3://{}{slash}{}", self.bucket, self.prefix)
    }

    /// The same with all that a machine without a configuration must know: what `--store` takes.
    pub fn address(&self) -> String {
        let ca = self.ca.as_ref().map(|path| path.display().to_string());
        let options = [("region", &self.region), ("endpoint", &self.endpoint), ("ca", &ca)];
        let mut words: Vec<String> =
            options.iter().filter_map(|(key, value)| value.as_ref().map(|value| format!("{key}={value}"))).collect();
        if self.path_style {
            words.push("path_style=true".to_owned());
        }
        let url = self.url().replace('%', "%25").replace(' ', "%20").replace('?', "%3F").replace('#', "%23");
        if words.is_empty() {
            url
        } else {
            format!("{url}?{}", words.join("&").replace(' ', "%20").replace('+', "%2B"))
        }
    }

    /// The key in the bucket.
    pub fn whole_key(&self, key: &str) -> String {
        if self.prefix.is_empty() { key.to_owned() } else { format!("{}/{key}", self.prefix) }
    }

    /// The key in the store, of one in the bucket; none: it is not of this store.
    pub fn own_key<'a>(&self, key: &'a str) -> Option<&'a str> {
        if self.prefix.is_empty() { Some(key) } else { key.strip_prefix(&self.prefix)?.strip_prefix('/') }
    }
}

/// How long written objects are kept from being deleted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lock {
    /// Who may still take it away.
    pub mode: LockMode,
    /// How long, from the moment of writing.
    pub keep: Span,
}

/// Who may take a lock away.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LockMode {
    /// Who has the right to bypass it.
    Governance,
    /// Nobody, the account's owner included.
    Compliance,
}

impl LockMode {
    /// The word used in policies.
    pub fn as_str(self) -> &'static str {
        match self {
            LockMode::Governance => "governance",
            LockMode::Compliance => "compliance",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_prefix_is_whole_names_and_not_the_beginning_of_one() {
        let bucket = Bucket::named("acme", "db/prod");
        assert_eq!(bucket.url(), "s3://acme/db/prod");
        assert_eq!(bucket.whole_key("orders/x"), "db/prod/orders/x");
        assert_eq!(bucket.own_key("db/prod/orders/x"), Some("orders/x"));
        assert_eq!(bucket.own_key("db/production/x"), None);
        assert_eq!(bucket.own_key("other"), None);
        let whole = Bucket::named("acme", "");
        assert_eq!(
            (whole.url(), whole.whole_key("a"), whole.own_key("a")),
            ("s3://acme".into(), "a".into(), Some("a"))
        );
    }
}
