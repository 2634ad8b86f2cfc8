//! `s3://bucket/prefix?region=…`: a bucket on a machine that has no configuration.

use std::path::PathBuf;

use url::Url;

use crate::domain::bucket::Bucket;
use crate::store::StoreError;
use crate::store::key::key_fault;

/// What can stand behind the `?`.
const OPTIONS: [&str; 10] =
    ["region", "endpoint", "path_style", "profile", "credentials", "role", "external_id", "ca", "checksums", "as_of"];

/// Reads it.
pub fn parse(text: &str) -> Result<Bucket, StoreError> {
    let unusable = |why: String| StoreError::Unusable { store: text.to_owned(), why };
    let url = Url::parse(text).map_err(|error| unusable(error.to_string()))?;
    if !url.username().is_empty() || url.password().is_some() {
        // Not repeated: it may be a secret.
        let why = "no credentials stand in it: they come from the environment, a profile or the machine".to_owned();
        return Err(StoreError::Unusable { store: "s3://…".to_owned(), why });
    }
    let name =
        url.host_str().filter(|name| !name.is_empty()).ok_or_else(|| unusable("it names no bucket".to_owned()))?;
    if url.port().is_some() {
        return Err(unusable("a port belongs to ?endpoint=http://HOST:PORT".to_owned()));
    }
    let decoded = |text: &str| {
        let text = percent_encoding::percent_decode_str(text).decode_utf8();
        text.map(|text| text.into_owned()).map_err(|error| unusable(error.to_string()))
    };
    let prefix = decoded(url.path().trim_matches('/'))?;
    if let Some(why) = (!prefix.is_empty()).then(|| key_fault(&prefix)).flatten() {
        return Err(unusable(format!("its prefix is none: {why}")));
    }
    let mut bucket = Bucket::named(name, &prefix);
    for (key, value) in url.query_pairs() {
        let value = value.into_owned();
        let yes = || match value.as_str() {
            "true" => Ok(true),
            "false" => Ok(false),
            _ => Err(unusable(format!("{key} is true or false, not `{value}`"))),
        };
        match &*key {
            "region" => bucket.region = Some(value),
            "endpoint" => bucket.endpoint = Some(endpoint(&value).map_err(unusable)?),
            "path_style" => bucket.path_style = yes()?,
            "profile" => bucket.login.profile = Some(value),
            "credentials" => bucket.login.file = Some(PathBuf::from(value)),
            "role" => bucket.login.role = Some(value),
            "external_id" => bucket.login.external_id = Some(value),
            "ca" => bucket.ca = Some(PathBuf::from(value)),
            "checksums" => bucket.checksums = yes()?,
            "as_of" => {
                let at = value.parse().map_err(|error| unusable(format!("as_of is a time with its zone: {error}")))?;
                bucket.as_of = Some(at);
            }
            other => {
                return Err(unusable(format!("it has no option `{other}`; there are: {}", OPTIONS.join(", "))));
            }
        }
    }
    Ok(bucket)
}

/// Why no service can be there; none: one can.
pub fn endpoint_fault(text: &str) -> Option<String> {
    endpoint(text).err()
}

/// Where a service is; an error says why nothing can be there.
fn endpoint(text: &str) -> Result<String, String> {
    let url = Url::parse(text).map_err(|error| format!("endpoint `{text}`: {error}"))?;
    if !["http", "https"].contains(&url.scheme()) || url.host_str().is_none() {
        return Err(format!("endpoint `{text}` is no http:// or https:// URL"));
    }
    if !url.username().is_empty() || url.password().is_some() || url.query().is_some() {
        return Err("an endpoint holds no credentials and no options".to_owned());
    }
    Ok(text.trim_end_matches('/').to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_says_all_that_a_restore_needs() {
        let bucket = parse(
            "s3://acme-backups/db/prod/?region=eu-west-1&endpoint=http://127.0.0.1:8333/&path_style=true&as_of=2026-03-04T05:06:07Z",
        )
        .unwrap();
        assert_eq!((bucket.bucket.as_str(), bucket.prefix.as_str()), ("acme-backups", "db/prod"));
        assert_eq!(bucket.region.as_deref(), Some("eu-west-1"));
        assert_eq!(bucket.endpoint.as_deref(), Some("http://127.0.0.1:8333"));
        assert!(bucket.path_style && bucket.checksums);
        assert_eq!(bucket.as_of.unwrap().to_string(), "2026-03-04T05:06:07Z");
        assert_eq!(parse("s3://acme").unwrap(), Bucket::named("acme", ""));
    }

    #[test]
    fn what_is_wrong_with_a_url_is_said_and_a_secret_is_not_repeated() {
        for (url, word) in [
            ("s3://", "bucket"),
            ("s3:///x", "bucket"),
            ("s3://acme:9000/x", "port"),
            ("s3://acme?regoin=x", "there are: region"),
            ("s3://acme?path_style=yes", "true or false"),
            ("s3://acme?endpoint=localhost:9000", "http"),
            ("s3://acme?as_of=yesterday", "as_of"),
            ("s3://acme/a//b", "prefix"),
            ("s3://KEY:SECRET@acme/x", "credentials"),
        ] {
            let error = parse(url).unwrap_err().to_string();
            assert!(error.contains(word) && !error.contains("SECRET"), "{url}: {error}");
        }
    }
}
