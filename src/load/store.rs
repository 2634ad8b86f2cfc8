//! `[stores.NAME]`: the rules between its keys, and its way into the domain.

use std::path::Path;
use std::str::FromStr;

use super::document::{Document, Entry, Node};
use super::format::{Words, Written};
use super::problem::Problems;
use super::raw::store::{RawLogin, RawServerEncryption, RawStore, StoreKind};
use crate::domain::bucket::{Bucket, Login, Patience, ServerEncryption};
use crate::domain::config::{StoreConfig, StorePlace};
use crate::domain::ids::PlaceName;
use crate::domain::units::{ByteSize, Span};
use crate::store::{endpoint_fault, key_fault};

/// S3 takes no smaller pieces, but for the last.
const LEAST_PIECE: ByteSize = ByteSize(5 << 20);
/// Two of them are in memory for each part that is written.
const GREATEST_PIECE: ByteSize = ByteSize(1 << 30);

/// What the shape alone cannot say.
pub(super) fn rules(document: &Document, problems: &mut Problems) {
    let stores = document.root.get("stores").map(Node::entries).unwrap_or_default();
    for (at, store) in stores.iter().enumerate() {
        keys_of_its_kind(document, store, problems);
        bucket_rules(document, &store.node, problems);
        if let Some(other) = stores[..at].iter().find(|other| same_place(&other.node, &store.node)) {
            let what = if store.node.get("bucket").is_some() { "part of a bucket" } else { "folder" };
            let message = format!("store `{}` is the same {what} as store `{}`", store.key, other.key);
            let node = store.node.get("path").or_else(|| store.node.get("bucket")).unwrap_or(&store.node);
            problems.add(document.problem(&node.span, message).hint("give each store a place of its own"));
        }
    }
}

fn same_place(a: &Node, b: &Node) -> bool {
    let text = |node: &Node, key: &str| node.get(key).and_then(Node::text).map(str::to_owned);
    let prefix = |node: &Node| text(node, "prefix").unwrap_or_default().trim_matches('/').to_owned();
    match (text(a, "path"), text(b, "path")) {
        (Some(a), Some(b)) => a == b,
        (None, None) => {
            text(a, "bucket").is_some()
                && text(a, "bucket") == text(b, "bucket")
                && text(a, "endpoint") == text(b, "endpoint")
                && prefix(a) == prefix(b)
        }
        _ => false,
    }
}

fn keys_of_its_kind(document: &Document, store: &Entry, problems: &mut Problems) {
    let Some(kind) = store.node.get("kind").and_then(Node::text) else { return };
    let (needed, other) = match kind {
        "file" => ("path", "s3"),
        "s3" => ("bucket", "file"),
        _ => return,
    };
    let is_of_all = |key: &str| ["kind", "media", "site"].contains(&key);
    for entry in store.node.entries() {
        let of_file = entry.key == "path";
        if !is_of_all(&entry.key) && of_file != (kind == "file") {
            let message = format!("`{}` is for stores of kind \"{other}\"; this one is of kind \"{kind}\"", entry.key);
            problems.add(document.problem(&entry.span, message).hint("leave it out, or correct the kind"));
        }
    }
    if store.node.get(needed).is_none() {
        let message = format!("`{needed}` is missing in [stores.{}]", store.key);
        let hint = if kind == "file" { "write path = \"/srv/backups\"" } else { "write bucket = \"acme-backups\"" };
        problems.add(document.problem(&store.node.span, message).hint(hint));
    }
}

fn bucket_rules(document: &Document, store: &Node, problems: &mut Problems) {
    let mut wrong = |node: &Node, message: String, hint: &str| {
        problems.add(document.problem(&node.span, message).hint(hint));
    };
    let said = |key: &str| store.get(key).and_then(|node| Some((node, node.text()?)));
    if let Some((node, text)) = said("endpoint")
        && let Some(why) = endpoint_fault(text)
    {
        wrong(node, why, "write scheme, host and port: endpoint = \"https://s3.example.org\"");
    }
    if let Some((node, text)) = said("bucket")
        && (text.contains('/') || text.contains(':') || text.chars().any(char::is_whitespace))
    {
        wrong(
            node,
            format!("`{text}` is not the name of a bucket"),
            "only the name; what stands behind it is the prefix",
        );
    }
    if let Some((node, text)) = said("prefix")
        && let Some(why) = key_fault(text.trim_matches('/'))
    {
        wrong(
            node,
            format!("`{text}` cannot begin a key: {why}"),
            "write names with `/` between them, such as \"db/prod\"",
        );
    }
    if let Some((node, text)) = said("piece")
        && let Ok(size) = text.parse::<ByteSize>()
        && !(LEAST_PIECE..=GREATEST_PIECE).contains(&size)
    {
        wrong(
            node,
            format!("pieces of {size} are not possible"),
            "S3 takes pieces from 5 MiB; above 1 GiB memory is wasted",
        );
    }
    if let Some(node) = store.get("kms_key")
        && said("encryption").is_none_or(|(_, text)| text != "kms")
    {
        wrong(node, "`kms_key` without encryption = \"kms\" does nothing".to_owned(), "write encryption = \"kms\"");
    }
    let tags = store.get("tags").map(Node::entries).unwrap_or_default();
    if let (true, Some(node)) = (tags.len() > 10, store.get("tags")) {
        wrong(node, format!("{} tags are too many", tags.len()), "S3 takes ten for an object");
    }
    for key in ["connect_timeout", "read_timeout", "operation_timeout", "backoff"] {
        document.more_than_none(store, key, problems);
    }
    for login in ["login", "backup_login", "prune_login"] {
        if let Some(node) = store.get(login) {
            login_rules(document, node, problems);
        }
    }
}

fn login_rules(document: &Document, login: &Node, problems: &mut Problems) {
    let mut wrong = |node: &Node, message: &str, hint: &str| {
        problems.add(document.problem(&node.span, message).hint(hint));
    };
    match (login.get("key_env"), login.get("secret_env")) {
        (Some(node), None) | (None, Some(node)) => {
            wrong(node, "`key_env` and `secret_env` go together", "name both variables");
        }
        (Some(node), Some(_)) if login.get("profile").or(login.get("file")).is_some() => {
            wrong(node, "a login is either a profile, or a file, or two variables", "leave one of them out");
        }
        _ => {}
    }
    if let (Some(node), None) = (login.get("external_id"), login.get("role")) {
        wrong(node, "`external_id` without `role` does nothing", "write role = \"arn:aws:iam::…\"");
    }
}

/// The domain's store, of a table in which nothing is wrong.
pub(super) fn convert(raw: RawStore, folder: &Path) -> Option<StoreConfig> {
    let site = raw.site.as_ref().map(|site| site.0.clone());
    let media = match (&raw.media, raw.kind) {
        (Some(media), _) => media.0.clone(),
        (None, StoreKind::File) => PlaceName::from_str("disk").ok()?,
        (None, StoreKind::S3) => PlaceName::from_str("object-storage").ok()?,
    };
    let place = match raw.kind {
        StoreKind::File => StorePlace::File { path: raw.path?.0.resolve(folder) },
        StoreKind::S3 => StorePlace::S3(Box::new(bucket(raw, folder)?)),
    };
    Some(StoreConfig { place, media, site })
}

fn bucket(raw: RawStore, folder: &Path) -> Option<Bucket> {
    let words = |words: Option<Written<Words>>| words.map(|words| words.0.0);
    let time = |span: Option<Written<Span>>, default: Span| span.map_or(default, |span| span.0);
    let as_whom = |raw: RawLogin| login(raw, folder);
    let prefix = words(raw.prefix).unwrap_or_default();
    let usual = Bucket::named(&raw.bucket?.0.0, prefix.trim_matches('/'));
    let patience = Patience {
        connect: time(raw.connect_timeout, usual.patience.connect),
        read: time(raw.read_timeout, usual.patience.read),
        operation: time(raw.operation_timeout, usual.patience.operation),
        backoff: time(raw.backoff, usual.patience.backoff),
        attempts: raw.attempts.map_or(usual.patience.attempts, u32::from),
    };
    Some(Bucket {
        region: words(raw.region),
        path_style: raw.path_style.unwrap_or(raw.endpoint.is_some()),
        endpoint: raw.endpoint.map(|endpoint| endpoint.0.0.trim_end_matches('/').to_owned()),
        ca: raw.ca.map(|path| path.0.resolve(folder)),
        login: raw.login.map(as_whom).unwrap_or_default(),
        backup: raw.backup_login.map(as_whom),
        prune: raw.prune_login.map(as_whom),
        checksums: raw.checksums.unwrap_or(usual.checksums),
        conditional_writes: raw.conditional_writes.unwrap_or(usual.conditional_writes),
        read_back: raw.read_back.unwrap_or(usual.read_back),
        encryption: match raw.encryption {
            None => ServerEncryption::Bucket,
            Some(RawServerEncryption::S3) => ServerEncryption::S3,
            Some(RawServerEncryption::Kms) => ServerEncryption::Kms(words(raw.kms_key)),
        },
        storage_class: words(raw.storage_class),
        tags: raw.tags.into_iter().collect(),
        piece: raw.piece.map_or(usual.piece, |piece| piece.0),
        parallel: raw.parallel.map_or(usual.parallel, usize::from),
        locked: raw.locked.unwrap_or(usual.locked),
        patience,
        ..usual
    })
}

fn login(raw: RawLogin, folder: &Path) -> Login {
    Login {
        profile: raw.profile.map(|name| name.0.0),
        file: raw.file.map(|path| path.0.resolve(folder)),
        role: raw.role.map(|role| role.0.0),
        external_id: raw.external_id.map(|id| id.0.0),
        env: raw.key_env.zip(raw.secret_env).map(|(key, secret)| (key.0.0, secret.0.0)),
    }
}
