//! A store and a key, on a machine that has nothing else: arguments that several verbs take in place of a configuration.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::domain::check::Broke;
use crate::seal::{Opener, TrustedSigners};
use crate::store::{self, Store};

/// The arguments.
#[derive(Debug, clap::Args)]
pub struct Alone {
    /// Use this store (a folder, file:///…, or s3://BUCKET/PREFIX?region=…), and no configuration and no catalog.
    #[arg(long, value_name = "URL", requires = "identity")]
    store: Option<String>,
    /// An age identity that opens what is in it; may be repeated.
    #[arg(long, value_name = "KEYFILE", requires = "store")]
    identity: Vec<PathBuf>,
    /// A public key (SPKI PEM) that is trusted to have signed; may be repeated.
    #[arg(long, value_name = "PUB", requires = "store")]
    trusted_signer: Vec<PathBuf>,
}

/// What they name.
pub struct Means {
    /// The one store.
    pub stores: Vec<Arc<dyn Store>>,
    /// What opens it.
    pub opener: Opener,
    /// Who is trusted.
    pub trusted: TrustedSigners,
}

impl Alone {
    /// The same arguments again, whole wherever the working folder is; none: they were not given, or are no text.
    pub fn words(&self) -> Option<Vec<String>> {
        let whole = |path: &Path| std::path::absolute(path).ok()?.into_os_string().into_string().ok();
        let store = self.store.as_deref()?;
        let store = if store.contains("://") { store.to_owned() } else { whole(Path::new(store))? };
        let mut words = vec![format!("--store={store}")];
        for path in &self.identity {
            words.push(format!("--identity={}", whole(path)?));
        }
        for path in &self.trusted_signer {
            words.push(format!("--trusted-signer={}", whole(path)?));
        }
        Some(words)
    }

    /// The files that they name.
    pub fn files(&self) -> Vec<PathBuf> {
        self.identity.iter().chain(&self.trusted_signer).cloned().collect()
    }

    /// Whether they were given.
    pub fn is_given(&self) -> bool {
        self.store.is_some()
    }

    /// Opens them; none: they were not given.
    pub fn open(&self) -> Result<Option<Means>, Broke> {
        let Some(url) = &self.store else { return Ok(None) };
        let opener = Opener::read(&self.identity)?;
        let trusted = TrustedSigners::read(&self.trusted_signer)?;
        Ok(Some(Means { stores: vec![store::open_url(url)?], opener, trusted }))
    }
}
