//! `[stores.NAME]`.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::Deserialize;

use crate::domain::ids::PlaceName;
use crate::domain::units::{ByteSize, Span};
use crate::load::format::{FilePath, Variable, Words, Written};

/// One store.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(in crate::load) struct RawStore {
    /// What kind of store it is.
    pub(in crate::load) kind: StoreKind,
    /// What it is made of: copies on one medium can be lost together. Default: disk, or object-storage.
    pub(in crate::load) media: Option<Written<PlaceName>>,
    /// Where in the world it stands, in your own words; a copy at the source's own site is not off-site. Left out: nobody
    /// knows.
    pub(in crate::load) site: Option<Written<PlaceName>>,
    /// The folder (kind file).
    pub(in crate::load) path: Option<Written<FilePath>>,
    /// The bucket (kind s3).
    pub(in crate::load) bucket: Option<Written<Words>>,
    /// What every key begins with: the store is this part of the bucket. Default: the whole of it.
    pub(in crate::load) prefix: Option<Written<Words>>,
    /// The region. Default: as AWS's own configuration says.
    pub(in crate::load) region: Option<Written<Words>>,
    /// Where the service is, if it is not Amazon's.
    pub(in crate::load) endpoint: Option<Written<Words>>,
    /// The bucket's name in the path instead of in the host's name. Default: true where there is an endpoint.
    pub(in crate::load) path_style: Option<bool>,
    /// Certificate authorities in PEM form, instead of the machine's own.
    pub(in crate::load) ca: Option<Written<FilePath>>,
    /// As whom, where a duty has no login of its own. Left out: the usual chain of environment, profile, web identity,
    /// container, machine.
    pub(in crate::load) login: Option<RawLogin>,
    /// As whom backups are written.
    pub(in crate::load) backup_login: Option<RawLogin>,
    /// As whom is deleted.
    pub(in crate::load) prune_login: Option<RawLogin>,
    /// Checksums in requests beyond what they demand. Default: true. Some servers that are not Amazon's refuse them.
    pub(in crate::load) checksums: Option<bool>,
    /// Whether the server is asked to refuse a write to a key that is there. Default: true. Without it only one writer may be
    /// at work.
    pub(in crate::load) conditional_writes: Option<bool>,
    /// Whether every object is read back and compared after it was written. Default: false.
    pub(in crate::load) read_back: Option<bool>,
    /// How the service encrypts objects, beside our own encryption. Default: as the bucket says.
    pub(in crate::load) encryption: Option<RawServerEncryption>,
    /// The key for encryption = "kms". Default: the account's own for S3.
    pub(in crate::load) kms_key: Option<Written<Words>>,
    /// The storage class. Default: the bucket's own.
    pub(in crate::load) storage_class: Option<Written<Words>>,
    /// Tags of every object.
    #[serde(default)]
    pub(in crate::load) tags: BTreeMap<String, String>,
    /// Objects above twice this size are written in pieces of it. Default: 16 MiB.
    pub(in crate::load) piece: Option<Written<ByteSize>>,
    /// Requests at once. Default: 8.
    #[schemars(range(min = 1, max = 64))]
    pub(in crate::load) parallel: Option<u8>,
    /// The longest time to wait for a connection. Default: 5s.
    pub(in crate::load) connect_timeout: Option<Written<Span>>,
    /// The longest time to wait for an answer, and for the next bytes of one. Default: 1m.
    pub(in crate::load) read_timeout: Option<Written<Span>>,
    /// The longest time for one operation with all its attempts. Default: 10m.
    pub(in crate::load) operation_timeout: Option<Written<Span>>,
    /// How often one request is tried in all. Default: 6.
    #[schemars(range(min = 1, max = 100))]
    pub(in crate::load) attempts: Option<u8>,
    /// The longest pause before the second attempt; it doubles with each, to 20 s. Default: 1s.
    pub(in crate::load) backoff: Option<Written<Span>>,
    /// Whether objects are locked as the policy's [lock] says. The bucket must have versioning and object lock. Default: false.
    pub(in crate::load) locked: Option<bool>,
}

/// Kinds of store.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub(in crate::load) enum StoreKind {
    /// A folder.
    File,
    /// A bucket of Amazon S3, or of a service that speaks as it does.
    S3,
}

/// How a service encrypts objects.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub(in crate::load) enum RawServerEncryption {
    /// With keys of the service (SSE-S3).
    S3,
    /// With a key of AWS KMS (SSE-KMS).
    Kms,
}

/// As whom a bucket is spoken to.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(in crate::load) struct RawLogin {
    /// A profile of the shared AWS configuration, or of the file. Default: default.
    pub(in crate::load) profile: Option<Written<Words>>,
    /// A file of credentials in AWS's own form, mode 0600, instead of the shared ones.
    pub(in crate::load) file: Option<Written<FilePath>>,
    /// A role to assume with what the chain gave.
    pub(in crate::load) role: Option<Written<Words>>,
    /// The external identifier that the role asks for.
    pub(in crate::load) external_id: Option<Written<Words>>,
    /// The environment variable that holds the access key's identifier.
    pub(in crate::load) key_env: Option<Written<Variable>>,
    /// The environment variable that holds its secret.
    pub(in crate::load) secret_env: Option<Written<Variable>>,
}
