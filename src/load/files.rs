//! The files of a folder, each from its text to the domain, several at a time: a machine may have thousands.

use std::path::{Path, PathBuf};

use super::across::Outline;
use super::document::Document;
use super::problem::{Problem, Problems};

/// Fewer files than this are read by one thread.
const FEW: usize = 64;
/// More threads than this gain nothing.
const THREADS: usize = 8;

/// What a folder holds.
pub(super) struct Folder<T> {
    /// Of each file; none: it could not be read, which has been told.
    pub(super) outlines: Vec<Option<Outline>>,
    /// What the files that are right say.
    pub(super) values: Vec<T>,
    /// What is valid but not well.
    pub(super) warnings: Vec<String>,
}

/// How a file of one kind becomes what it says.
pub(super) struct Kind<T> {
    /// Its outline, for the rules between files.
    pub(super) outline: fn(&Document) -> Outline,
    /// Its value, if nothing is wrong with it.
    pub(super) value: fn(&Document, &mut Problems, &mut Vec<String>) -> Option<T>,
}

/// The `*.toml` files of a folder, by name.
pub(super) fn list(folder: &Path, what: &str, problems: &mut Problems, warnings: &mut Vec<String>) -> Vec<PathBuf> {
    let shown = if folder.as_os_str().is_empty() { Path::new(".") } else { folder };
    let entries = match std::fs::read_dir(shown) {
        Ok(entries) => entries,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            warnings.push(format!("there is no folder {}, so there is no {what}", shown.display()));
            return Vec::new();
        }
        Err(error) => {
            let hint = "check the folder's owner and mode, and [folders] in lifeboat.toml";
            problems.add(Problem::of_file(shown, format!("this folder cannot be read: {error}"), hint));
            return Vec::new();
        }
    };
    let mut paths: Vec<PathBuf> = Vec::new();
    for entry in entries {
        match entry {
            Ok(entry) => paths.push(entry.path()),
            Err(error) => {
                let message = format!("this folder cannot be read: {error}");
                problems.add(Problem::of_file(shown, message, "check the file system"));
            }
        }
    }
    let hidden = |path: &Path| path.file_name().is_some_and(|name| name.as_encoded_bytes().starts_with(b"."));
    paths.retain(|path| path.extension().is_some_and(|extension| extension == "toml") && !hidden(path));
    paths.sort();
    if paths.is_empty() {
        warnings.push(format!("the folder {} holds no {what}", shown.display()));
    }
    paths
}

/// Reads files; what comes of them, and what is wrong with them, is in their order, however many threads there are.
pub(super) fn read<T: Send>(paths: &[PathBuf], kind: &Kind<T>, problems: &mut Problems) -> Folder<T> {
    let threads = std::thread::available_parallelism().map_or(1, usize::from).min(THREADS);
    if threads == 1 || paths.len() < FEW {
        return read_some(paths, kind, problems);
    }
    let parts = std::thread::scope(|scope| {
        let chunks = paths.chunks(paths.len().div_ceil(threads));
        let work = |chunk| {
            scope.spawn(move || {
                let mut problems = Problems::default();
                (read_some(chunk, kind, &mut problems), problems)
            })
        };
        // All begin before the first is waited for.
        let threads: Vec<_> = chunks.map(work).collect();
        let done = threads.into_iter().map(|thread| thread.join());
        done.map(|done| done.unwrap_or_else(|panic| std::panic::resume_unwind(panic))).collect::<Vec<_>>()
    });
    let mut all = Folder { outlines: Vec::new(), values: Vec::new(), warnings: Vec::new() };
    for (part, found) in parts {
        all.outlines.extend(part.outlines);
        all.values.extend(part.values);
        all.warnings.extend(part.warnings);
        problems.append(found);
    }
    all
}

fn read_some<T>(paths: &[PathBuf], kind: &Kind<T>, problems: &mut Problems) -> Folder<T> {
    let mut all = Folder { outlines: Vec::new(), values: Vec::new(), warnings: Vec::new() };
    for path in paths {
        let before = problems.len();
        // What is left of a file with syntax errors would only give errors that follow from them.
        let document = Document::read(path, problems).filter(|_| problems.len() == before);
        all.outlines.push(document.as_ref().map(kind.outline));
        all.values.extend(document.and_then(|document| (kind.value)(&document, problems, &mut all.warnings)));
    }
    all
}
