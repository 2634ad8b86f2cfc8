//! What an object key may look like, the same in every store.

use super::StoreError;

/// Longest segment that a store takes: a file name's limit on every common file system, in bytes.
pub const MAX_SEGMENT_BYTES: usize = 255;
/// Longest key: S3's limit, in bytes.
pub const MAX_KEY_BYTES: usize = 1024;
/// Files whose names begin so are half written: no key can name one, no list shows one.
pub(super) const TEMP_PREFIX: &str = ".lifeboat-tmp-";

/// Why this text is not an object key; none: it is one.
pub fn key_fault(key: &str) -> Option<&'static str> {
    if key.is_empty() {
        return Some("it is empty");
    }
    if key.starts_with('/') {
        return Some("it is absolute");
    }
    if key.len() > MAX_KEY_BYTES {
        return Some("it is longer than 1024 bytes");
    }
    if key.contains('\0') {
        return Some("it holds a NUL");
    }
    for segment in key.split('/') {
        match segment {
            "" => return Some("it has an empty segment"),
            "." => return Some("it has a `.` segment"),
            ".." => return Some("it has a `..` segment"),
            _ if segment.len() > MAX_SEGMENT_BYTES => return Some("it has a segment longer than 255 bytes"),
            _ if segment.starts_with(TEMP_PREFIX) => return Some("that name is kept for half-written objects"),
            _ => {}
        }
    }
    None
}

/// The same as an error.
pub(super) fn check_key(key: &str) -> Result<(), StoreError> {
    match key_fault(key) {
        None => Ok(()),
        Some(why) => Err(StoreError::BadKey(format!("`{}` is not an object key: {why}", shortened(key)))),
    }
}

/// The same, but a half-written object can be named: to be removed.
pub(super) fn check_key_to_delete(key: &str) -> Result<(), StoreError> {
    match key.rsplit_once('/').unwrap_or(("", key)) {
        ("", name) if is_temp(name) => Ok(()),
        (folder, name) if is_temp(name) => check_key(folder),
        _ => check_key(key),
    }
}

/// Whether this is the name of a half-written object.
pub(super) fn is_temp(name: &str) -> bool {
    name.strip_prefix(TEMP_PREFIX).is_some_and(|rest| !rest.is_empty() && rest.bytes().all(|b| b.is_ascii_hexdigit()))
}

/// A list's prefix is the beginning of a key: its last segment may be empty or cut.
pub(super) fn check_prefix(prefix: &str) -> Result<(), StoreError> {
    let folder = prefix.rsplit_once('/').map_or("", |(folder, _)| folder);
    if prefix.is_empty() || (folder.is_empty() && !prefix.starts_with('/') && !prefix.contains('\0')) {
        return Ok(());
    }
    check_key(if folder.is_empty() { prefix } else { folder })
}

/// Enough of a key to recognise it by.
fn shortened(key: &str) -> String {
    let mut text: String = key.chars().take(120).flat_map(char::escape_debug).collect();
    if key.chars().nth(120).is_some() {
        text.push('…');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_that_could_leave_the_store_or_hide_in_it_are_refused() {
        let (long, deep) = ("a".repeat(256), "a/".repeat(512) + "a");
        for key in [
            "",
            "/",
            "/etc/passwd",
            "a//b",
            "a/",
            "../a",
            "a/../b",
            "a/..",
            "./a",
            "a/./b",
            "a\0b",
            ".lifeboat-tmp-1",
            "a/.lifeboat-tmp-1",
            long.as_str(),
            deep.as_str(),
        ] {
            assert!(key_fault(key).is_some(), "{key:?}");
        }
        let longest = "a".repeat(255);
        for key in ["a", "a/b.c", "..a", "a..", ".hidden", "a\\b", "ä/ö", "a b", longest.as_str()] {
            assert_eq!(key_fault(key), None, "{key:?}");
        }
    }

    #[test]
    fn prefixes_may_end_anywhere_but_not_leave() {
        for prefix in ["", "a", "a/", "a/b", "a/.", "."] {
            assert!(check_prefix(prefix).is_ok(), "{prefix:?}");
        }
        for prefix in ["/", "/a", "../", "../a", "a//", "a/../b", "a\0"] {
            assert!(check_prefix(prefix).is_err(), "{prefix:?}");
        }
    }

    #[test]
    fn an_error_never_repeats_a_huge_key() {
        let error = check_key(&"x".repeat(5_000)).unwrap_err().to_string();
        assert!(error.len() < 300 && error.contains("1024 bytes"), "{error}");
    }
}
