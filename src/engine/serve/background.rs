//! What runs beside the workers, each until it is told to end: the planner, the receivers of the log, the reader of policies.
//!
//! Whatever else is to run as long as the service does (a listener, an outbox) is one more [`Background`] in [`parts`].

use std::pin::Pin;
use std::sync::Arc;

use tokio::sync::watch;

use super::{Role, Shared, Source, planner, receivers, reload};

/// The work of a part.
pub type Part = Pin<Box<dyn Future<Output = ()> + Send>>;

/// Something that runs as long as the service does.
pub struct Background {
    /// What it is called in the log.
    pub name: &'static str,
    /// Ends by itself soon after `end` of [`parts`] becomes true.
    pub work: Part,
}

/// All of them. `end` becomes true when nothing runs any more.
pub(super) fn parts(shared: &Arc<Shared>, source: Source, role: Role, end: &watch::Receiver<bool>) -> Vec<Background> {
    let share = || (Arc::clone(shared), end.clone());
    let mut parts = Vec::new();
    let mut add = |name, work: Part| parts.push(Background { name, work });
    let (with, until) = share();
    add("policies", Box::pin(reload::keep(with, source, until)));
    if role == Role::Serve {
        let (with, until) = share();
        add("planner", Box::pin(planner::keep(with, until)));
        let (with, until) = share();
        add("receivers", Box::pin(receivers::keep(with, until)));
    }
    parts
}
