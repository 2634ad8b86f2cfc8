//! The kind `folder`: a private folder in which lifeboat itself is brought back. Nothing is started in it.

use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use super::cluster::{note_maker, remove_folder};
use crate::domain::check::Broke;
use crate::domain::config::ScratchConfig;
use crate::domain::ids::RunId;

/// A folder of this process's own, mode 0700.
#[derive(Debug)]
pub(super) struct Folder {
    pub name: String,
    pub folder: PathBuf,
    gone: bool,
}

impl Folder {
    pub(super) fn provision(run: RunId, config: &ScratchConfig) -> Result<Folder, Broke> {
        let failed = |path: &Path, error: &std::io::Error| {
            let hint = "see who owns it, and whether there is room; [scratch] dir in lifeboat.toml names another place";
            Broke::hinted(format!("the scratch folder {} cannot be made: {error}", path.display()), hint)
        };
        let name = run.scratch_name();
        if !config.dir.is_dir() {
            let made = std::fs::DirBuilder::new().recursive(true).mode(0o755).create(&config.dir);
            made.map_err(|error| failed(&config.dir, &error))?;
        }
        let folder = config.dir.canonicalize().map_err(|error| failed(&config.dir, &error))?.join(&name);
        std::fs::DirBuilder::new().mode(0o700).create(&folder).map_err(|error| failed(&folder, &error))?;
        let made = Folder { name, folder, gone: false };
        // From here on it is removed again when anything fails: by Drop.
        note_maker(&made.folder)?;
        Ok(made)
    }

    pub(super) fn remove(&mut self) -> Result<(), Broke> {
        remove_folder(&self.folder)?;
        self.gone = true;
        Ok(())
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        if !self.gone {
            // What cannot be removed now is swept by the next start.
            let _ = remove_folder(&self.folder);
        }
    }
}
