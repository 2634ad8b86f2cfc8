//! How long work tells how far it is. The terminal draws a bar of it, tests ignore it.

/// Listens to the progress of a backup, a restore or a drill.
pub trait Progress: Send + Sync {
    /// A new part of the work begins: `dump orders`, `restore`, `check amcheck`.
    fn stage(&self, what: &str);
    /// How many bytes this stage will move, when that is known or estimated.
    fn expect(&self, bytes: u64);
    /// So many bytes more have been moved.
    fn moved(&self, bytes: u64);
    /// Something that a person watching wants to know: stays on the screen.
    fn say(&self, sentence: &str);
}

/// Nobody listens.
#[derive(Debug)]
pub struct Silent;

impl Progress for Silent {
    fn stage(&self, _what: &str) {}
    fn expect(&self, _bytes: u64) {}
    fn moved(&self, _bytes: u64) {}
    fn say(&self, _sentence: &str) {}
}
