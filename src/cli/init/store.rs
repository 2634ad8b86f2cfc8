//! The first store of a new configuration, as it is typed: a folder, or a bucket.

use url::Url;

use super::toml_string;
use crate::domain::bucket::Bucket;
use crate::domain::check::Broke;
use crate::store::bucket_of_url;

/// What the first store is.
#[derive(Clone, Debug)]
pub(super) enum First {
    /// A folder, by its path.
    Folder(String),
    /// A bucket.
    Bucket {
        bucket: Box<Bucket>,
        /// What was said of the place of its name; none: nothing, so that the configuration's own rule counts.
        path_style: Option<bool>,
    },
}

impl First {
    /// Reads it.
    pub(super) fn read(text: &str) -> Result<First, Broke> {
        let hint = "name a folder, or a bucket: --store 's3://BUCKET/PREFIX?region=REGION' (docs/s3.md)";
        match text.split_once("://") {
            None => Ok(First::Folder(text.to_owned())),
            Some(("s3", _)) => {
                let bucket = bucket_of_url(text).map_err(|error| {
                    let broke = Broke::from(error);
                    Broke { hint: broke.hint.or_else(|| Some(hint.to_owned())), ..broke }
                })?;
                if bucket.as_of.is_some() {
                    let error = "a bucket as it was at a moment can be read, and no backup can be written to it";
                    return Err(Broke::hinted(error, "leave `as_of` out"));
                }
                let said =
                    Url::parse(text).ok().is_some_and(|url| url.query_pairs().any(|(key, _)| key == "path_style"));
                let path_style = said.then_some(bucket.path_style);
                Ok(First::Bucket { bucket: Box::new(bucket), path_style })
            }
            Some((scheme, _)) => {
                Err(Broke::hinted(format!("{scheme}:// is no kind of store that can be made here"), hint))
            }
        }
    }

    /// The lines of its table.
    pub(super) fn table(&self) -> String {
        match self {
            First::Folder(path) => format!("kind = \"file\"\npath = {}", toml_string(path)),
            First::Bucket { bucket, path_style } => {
                let mut lines = vec!["kind = \"s3\"".to_owned(), format!("bucket = {}", toml_string(&bucket.bucket))];
                let mut add = |key: &str, value: Option<String>| {
                    lines.extend(value.map(|value| format!("{key} = {}", toml_string(&value))));
                };
                add("prefix", Some(bucket.prefix.clone()).filter(|prefix| !prefix.is_empty()));
                add("region", bucket.region.clone());
                add("endpoint", bucket.endpoint.clone());
                add("ca", bucket.ca.as_ref().map(|path| path.display().to_string()));
                lines.extend(path_style.map(|yes| format!("path_style = {yes}")));
                if !bucket.checksums {
                    lines.push("checksums = false".to_owned());
                }
                let login = &bucket.login;
                let file = login.file.as_ref().map(|path| path.display().to_string());
                let said = [
                    ("file", &file),
                    ("profile", &login.profile),
                    ("role", &login.role),
                    ("external_id", &login.external_id),
                ];
                let said =
                    said.iter().filter_map(|(key, value)| Some(format!("{key} = {}", toml_string(value.as_ref()?))));
                let said: Vec<String> = said.collect();
                lines.push(match said.is_empty() {
                    true => "# login = { profile = \"backup\" }   # as whom; left out: environment, profile, web identity, container, machine".to_owned(),
                    false => format!("login = {{ {} }}", said.join(", ")),
                });
                lines.join("\n")
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bucket_is_written_as_the_configuration_has_it() {
        let table = |text: &str| First::read(text).unwrap().table();
        assert_eq!(table("/srv/\"odd\""), "kind = \"file\"\npath = \"/srv/\\\"odd\\\"\"");
        let full = table(
            "s3://acme/db/prod?region=eu-west-1&endpoint=http://127.0.0.1:9000&path_style=true&ca=ca.pem&checksums=false&credentials=/etc/c&profile=p&role=arn:aws:iam::1:role/x&external_id=e",
        );
        let lines = [
            "kind = \"s3\"",
            "bucket = \"acme\"",
            "prefix = \"db/prod\"",
            "region = \"eu-west-1\"",
            "endpoint = \"http://127.0.0.1:9000\"",
            "ca = \"ca.pem\"",
            "path_style = true",
            "checksums = false",
            "login = { file = \"/etc/c\", profile = \"p\", role = \"arn:aws:iam::1:role/x\", external_id = \"e\" }",
        ];
        assert_eq!(full.lines().collect::<Vec<_>>(), lines);
        let short = table("s3://acme");
        assert!(short.starts_with("kind = \"s3\"\nbucket = \"acme\"\n# login") && !short.contains("prefix"), "{short}");
        assert!(table("s3://acme?path_style=false").contains("path_style = false"));
        for bad in [
            "s3://",
            "s3://acme?regoin=x",
            "s3://acme:9/x",
            "s3://K:S@acme",
            "s3://acme?as_of=2026-01-01T00:00:00Z",
            "gs://acme",
        ] {
            let broke = First::read(bad).unwrap_err();
            assert!(broke.hint.is_some(), "{bad}: {broke}");
            assert!(!broke.error.contains("K:S"), "{broke}");
        }
    }
}
