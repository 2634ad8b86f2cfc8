//! A folder as a store.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, ErrorKind, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;
use bytes::Bytes;
use jiff::Timestamp;
use rustix::fs::{CWD, RenameFlags, renameat_with};
use rustix::io::Errno;

use super::key::{TEMP_PREFIX, check_key, check_key_to_delete, check_prefix, is_temp};
use super::{ObjectInfo, Store, StoreError};

/// A folder. Objects are files of mode 0600 in folders of mode 0700; a half-written one has a name that `list` does not
/// show. Symbolic links inside are not followed: what they point to is not part of the store.
#[derive(Debug)]
pub struct FileStore {
    folder: Arc<Folder>,
}

#[derive(Debug)]
struct Folder {
    root: PathBuf,
    /// Held while folders are made and their parents made durable: whoever finds a folder there finds it durable.
    making: Mutex<()>,
}

impl FileStore {
    /// Opens a folder, which is made (with mode 0700) if its parent exists. One that cannot be written is still opened:
    /// a read-only copy can be restored from; `put_new` then says why it cannot write.
    pub fn open(root: &Path) -> Result<FileStore, StoreError> {
        let root = absolute(root)?;
        match DirBuilder::new().mode(0o700).create(&root) {
            Ok(()) => root.parent().map_or(Ok(()), sync_folder).map_err(|error| unusable(&root, &error))?,
            Err(error) if error.kind() == ErrorKind::AlreadyExists => {}
            // A read-only file system says so before it says that the folder is there.
            Err(_) if root.is_dir() => {}
            Err(error) if error.kind() == ErrorKind::NotFound => {
                let parent = root.parent().unwrap_or(&root).display();
                let why = format!("its parent folder {parent} does not exist");
                return Err(StoreError::Unusable { store: url_of(&root), why });
            }
            Err(error) => return Err(unusable(&root, &error)),
        }
        FileStore::open_existing(&root)
    }

    /// Opens a folder that must be there.
    pub fn open_existing(root: &Path) -> Result<FileStore, StoreError> {
        let root = absolute(root)?;
        match fs::metadata(&root) {
            Ok(meta) if !meta.is_dir() => {
                return Err(StoreError::Unusable { store: url_of(&root), why: "it is not a folder".to_owned() });
            }
            Ok(_) => {}
            Err(error) if error.kind() == ErrorKind::NotFound => {
                return Err(StoreError::Unusable { store: url_of(&root), why: "there is no such folder".to_owned() });
            }
            Err(error) => return Err(unusable(&root, &error)),
        }
        // One that cannot be listed would look like one without backups.
        fs::read_dir(&root).map_err(|error| unusable(&root, &error))?;
        Ok(FileStore { folder: Arc::new(Folder { root, making: Mutex::new(()) }) })
    }

    /// Files block: they have threads of their own.
    async fn blocking<T: Send + 'static>(
        &self,
        doing: &'static str,
        key: &str,
        work: impl FnOnce(&Folder, &str) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, StoreError> {
        let (folder, owned) = (Arc::clone(&self.folder), key.to_owned());
        match tokio::task::spawn_blocking(move || work(&folder, &owned)).await {
            Ok(done) => done,
            Err(error) => Err(self.folder.failed(doing, key, io::Error::other(error))),
        }
    }
}

#[async_trait]
impl Store for FileStore {
    fn url(&self) -> String {
        self.folder.url()
    }
    async fn put_new(&self, key: &str, bytes: Bytes) -> Result<(), StoreError> {
        check_key(key)?;
        self.blocking("write", key, move |folder, key| folder.put_new(key, &bytes)).await
    }
    async fn get(&self, key: &str) -> Result<Bytes, StoreError> {
        check_key(key)?;
        self.blocking("read", key, Folder::get).await
    }
    async fn list(&self, prefix: &str) -> Result<Vec<ObjectInfo>, StoreError> {
        check_prefix(prefix)?;
        self.blocking("list", prefix, |folder, prefix| folder.list(prefix, |key| check_key(key).is_ok())).await
    }
    async fn half_written(&self, prefix: &str) -> Result<Vec<ObjectInfo>, StoreError> {
        check_prefix(prefix)?;
        let half = |key: &str| is_temp(key.rsplit('/').next().unwrap_or(key));
        self.blocking("list", prefix, move |folder, prefix| folder.list(prefix, half)).await
    }
    async fn delete(&self, key: &str) -> Result<(), StoreError> {
        check_key_to_delete(key)?;
        self.blocking("delete", key, Folder::delete).await
    }
}

impl Folder {
    fn url(&self) -> String {
        url_of(&self.root)
    }

    fn failed(&self, doing: &'static str, key: &str, source: io::Error) -> StoreError {
        StoreError::Io { doing, key: key.to_owned(), store: self.url(), source }
    }

    /// Absence counts as certain only while the store itself is there: an unmounted disk has no objects either.
    fn absent(&self, key: &str) -> StoreError {
        if self.root.is_dir() {
            StoreError::NotFound { key: key.to_owned(), store: self.url() }
        } else {
            StoreError::Unusable { store: self.url(), why: "its folder is gone".to_owned() }
        }
    }

    /// The path of a key, none of whose segments is a symbolic link.
    fn path(&self, key: &str) -> io::Result<PathBuf> {
        let mut path = self.root.clone();
        for segment in key.split('/') {
            path.push(segment);
            match fs::symlink_metadata(&path) {
                Ok(meta) if meta.is_symlink() => return Err(Errno::LOOP.into()),
                Ok(_) => {}
                Err(error) if is_absence(&error) => break,
                Err(error) => return Err(error),
            }
        }
        Ok(self.root.join(key))
    }

    fn put_new(&self, key: &str, bytes: &[u8]) -> Result<(), StoreError> {
        let failed = |error| self.failed("write", key, error);
        let there = || StoreError::AlreadyThere { key: key.to_owned(), store: self.url() };
        if !self.root.is_dir() {
            return Err(self.absent(key));
        }
        let path = self.path(key).map_err(failed)?;
        if fs::symlink_metadata(&path).is_ok() {
            return Err(there());
        }
        let parent = path.parent().unwrap_or(&self.root);
        let (temp, mut file) = self.temp_file(parent).map_err(failed)?;
        let written = file
            .write_all(bytes)
            // Said once: after a failed fsync the kernel may have dropped the pages, and a second one would lie.
            .and_then(|()| file.sync_all())
            .and_then(|()| self.publish(&temp, &path));
        drop(file);
        if let Err(error) = written {
            let _ = fs::remove_file(&temp);
            return Err(if error.kind() == ErrorKind::AlreadyExists { there() } else { failed(error) });
        }
        if let Err(error) = sync_folder(parent) {
            // Not known to be durable: it shall not be there either.
            let _ = fs::remove_file(&path);
            return Err(failed(error));
        }
        Ok(())
    }

    /// A new hidden file beside its future place. The folder may be pruned by a `delete` in between: then it is made again.
    fn temp_file(&self, parent: &Path) -> io::Result<(PathBuf, File)> {
        for _ in 0..10 {
            self.make_folders(parent)?;
            let temp = parent.join(format!("{TEMP_PREFIX}{:016x}", getrandom::u64().map_err(io::Error::other)?));
            match OpenOptions::new().write(true).create_new(true).mode(0o600).open(&temp) {
                Ok(file) => return Ok((temp, file)),
                Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::AlreadyExists) => {}
                Err(error) => return Err(error),
            }
        }
        Err(io::Error::other("its folder is removed again and again by somebody else"))
    }

    /// Makes what is missing of the path from the root to `folder`, each durable in its parent.
    fn make_folders(&self, folder: &Path) -> io::Result<()> {
        let _making = self.making.lock().unwrap_or_else(PoisonError::into_inner);
        let missing: Vec<&Path> = folder.ancestors().take_while(|path| *path != self.root && !path.is_dir()).collect();
        for path in missing.into_iter().rev() {
            match DirBuilder::new().mode(0o700).create(path) {
                Ok(()) => {
                    if let Err(error) = path.parent().map_or(Ok(()), sync_folder) {
                        let _ = fs::remove_dir(path);
                        return Err(error);
                    }
                }
                Err(error) if error.kind() == ErrorKind::AlreadyExists && path.is_dir() => {}
                // A file is where a folder must be.
                Err(error) if error.kind() == ErrorKind::AlreadyExists => return Err(Errno::NOTDIR.into()),
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// Gives the temporary file its name, and never replaces anything: by `renameat2(RENAME_NOREPLACE)`; where the file
    /// system has no such thing (NFS), by a hard link; where it has neither (FAT, some FUSE), by looking first.
    fn publish(&self, temp: &Path, path: &Path) -> io::Result<()> {
        match renameat_with(CWD, temp, CWD, path, RenameFlags::NOREPLACE) {
            Ok(()) => return Ok(()),
            Err(error) if !is_unsupported(error) => return Err(error.into()),
            Err(_) => {}
        }
        match rustix::fs::link(temp, path) {
            // A leftover temporary name is hidden and harmless.
            Ok(()) => return fs::remove_file(temp).or(Ok(())),
            Err(error) if !is_unsupported(error) => return Err(error.into()),
            Err(_) => {}
        }
        let _making = self.making.lock().unwrap_or_else(PoisonError::into_inner);
        match fs::symlink_metadata(path) {
            Ok(_) => Err(ErrorKind::AlreadyExists.into()),
            Err(error) if error.kind() == ErrorKind::NotFound => fs::rename(temp, path),
            Err(error) => Err(error),
        }
    }

    fn get(&self, key: &str) -> Result<Bytes, StoreError> {
        let read = || -> io::Result<Option<Vec<u8>>> {
            let path = self.path(key)?;
            // A folder of that name is no object.
            if fs::symlink_metadata(&path)?.is_file() { fs::read(&path).map(Some) } else { Ok(None) }
        };
        match read() {
            Ok(Some(bytes)) => Ok(Bytes::from(bytes)),
            Ok(None) => Err(self.absent(key)),
            Err(error) if is_absence(&error) => Err(self.absent(key)),
            Err(error) => Err(self.failed("read", key, error)),
        }
    }

    fn list(&self, prefix: &str, shows: impl Fn(&str) -> bool) -> Result<Vec<ObjectInfo>, StoreError> {
        let failed = |error| self.failed("list", prefix, error);
        if !self.root.is_dir() {
            return Err(self.absent(prefix));
        }
        let folder = prefix.rsplit_once('/').map_or("", |(folder, _)| folder);
        let start = if folder.is_empty() { self.root.clone() } else { self.path(folder).map_err(failed)? };
        // A folder that cannot be looked at must not look like one without objects.
        match fs::metadata(&start) {
            Ok(meta) if meta.is_dir() => {}
            Ok(_) => return Ok(Vec::new()),
            Err(error) if is_absence(&error) => return Ok(Vec::new()),
            Err(error) => return Err(failed(error)),
        }
        let mut objects = Vec::new();
        for entry in walkdir::WalkDir::new(&start).follow_links(false) {
            let entry = match entry.map_err(io::Error::from) {
                Ok(entry) => entry,
                // Deleted while we looked.
                Err(error) if is_absence(&error) => continue,
                Err(error) => return Err(failed(error)),
            };
            // What is no UTF-8 is no key, and was not written by lifeboat.
            let Some(key) = entry.path().strip_prefix(&self.root).ok().and_then(Path::to_str) else { continue };
            if !entry.file_type().is_file() || !key.starts_with(prefix) || !shows(key) {
                continue;
            }
            let meta = match entry.metadata().map_err(io::Error::from) {
                Ok(meta) => meta,
                Err(error) if is_absence(&error) => continue,
                Err(error) => return Err(failed(error)),
            };
            let modified = meta.modified().map_err(failed)?;
            let modified = Timestamp::try_from(modified).map_err(|error| failed(io::Error::other(error)))?;
            objects.push(ObjectInfo { key: key.to_owned(), bytes: meta.len(), modified });
        }
        objects.sort_by(|a, b| a.key.cmp(&b.key));
        Ok(objects)
    }

    fn delete(&self, key: &str) -> Result<(), StoreError> {
        let failed = |error| self.failed("delete", key, error);
        if !self.root.is_dir() {
            return Err(self.absent(key));
        }
        let path = self.path(key).map_err(failed)?;
        if path.is_dir() {
            return Ok(());
        }
        match fs::remove_file(&path) {
            Ok(()) => match path.parent().map_or(Ok(()), sync_folder) {
                // Somebody deleted the last one beside it meanwhile, and the folder went too.
                Err(error) if is_absence(&error) => {}
                synced => synced.map_err(failed)?,
            },
            Err(error) if is_absence(&error) => {}
            Err(error) => return Err(failed(error)),
        }
        // Empty folders go too, up to the root; one that is not empty refuses, and that is the end of it.
        for folder in path.ancestors().skip(1).take_while(|folder| *folder != self.root) {
            if fs::remove_dir(folder).is_err_and(|error| !is_absence(&error)) {
                break;
            }
        }
        Ok(())
    }
}

/// Whether this says for certain that nothing is there: no such entry, or a file where a folder would have to be.
fn is_absence(error: &io::Error) -> bool {
    matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory)
}

/// Whether the file system does not know an operation.
fn is_unsupported(error: Errno) -> bool {
    [Errno::INVAL, Errno::NOSYS, Errno::OPNOTSUPP, Errno::NOTSUP, Errno::PERM, Errno::MLINK].contains(&error)
}

/// Makes the entries of a folder durable. File systems that cannot do that for folders say EINVAL or EBADF, which
/// PostgreSQL lets pass too (`fsync_fname_ext`).
fn sync_folder(folder: &Path) -> io::Result<()> {
    match File::open(folder)?.sync_all() {
        Err(error) if [Some(Errno::INVAL), Some(Errno::BADF)].contains(&Errno::from_io_error(&error)) => Ok(()),
        done => done,
    }
}

fn absolute(root: &Path) -> Result<PathBuf, StoreError> {
    let why = |error: io::Error| StoreError::Unusable { store: root.display().to_string(), why: error.to_string() };
    std::path::absolute(root).map_err(why)
}

fn url_of(root: &Path) -> String {
    format!("file://{}", root.display())
}

fn unusable(root: &Path, error: &io::Error) -> StoreError {
    StoreError::Unusable { store: url_of(root), why: error.to_string() }
}
