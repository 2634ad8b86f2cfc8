//! The progress bar: on standard error, and only on a terminal.

use std::io::IsTerminal;
use std::time::Duration;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use super::output;
use crate::progress::Progress;
use crate::render::plain;

/// Draws what the work tells. Sentences stay on the screen; without a terminal they are all that is written.
pub struct Bar {
    bar: Option<ProgressBar>,
    name: String,
}

impl Bar {
    /// For work called `name` (`orders/nightly`).
    pub fn new(name: &str) -> Bar {
        let bar = std::io::stderr().is_terminal().then(|| {
            let bar = ProgressBar::with_draw_target(None, ProgressDrawTarget::stderr());
            bar.set_style(style("{spinner} {prefix} {msg} {bytes} {binary_bytes_per_sec} {elapsed}"));
            bar.set_prefix(name.to_owned());
            bar.enable_steady_tick(Duration::from_millis(120));
            bar
        });
        Bar { bar, name: name.to_owned() }
    }

    /// Takes the bar away: the result comes next.
    pub fn finish(&self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}

impl Drop for Bar {
    fn drop(&mut self) {
        self.finish();
    }
}

fn style(template: &str) -> ProgressStyle {
    // A template that cannot be read is a mistake in this file; the plain bar is then good enough.
    ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar())
}

impl Progress for Bar {
    fn stage(&self, what: &str) {
        tracing::debug!("{}: stage: {what}", self.name);
        if let Some(bar) = &self.bar {
            bar.set_style(style("{spinner} {prefix} {msg} {bytes} {binary_bytes_per_sec} {elapsed}"));
            bar.unset_length();
            bar.reset();
            bar.set_message(what.to_owned());
        }
    }

    fn expect(&self, bytes: u64) {
        if let (Some(bar), 1..) = (&self.bar, bytes) {
            bar.set_style(style(
                "{spinner} {prefix} {msg} {wide_bar} {bytes}/{total_bytes} {binary_bytes_per_sec}, {eta} left",
            ));
            bar.set_length(bytes);
        }
    }

    fn moved(&self, bytes: u64) {
        if let Some(bar) = &self.bar {
            bar.inc(bytes);
            // What is expected is an estimate: a bar never stands beyond its end.
            if let Some(length) = bar.length()
                && bar.position() > length
            {
                bar.set_length(bar.position());
            }
        }
    }

    fn say(&self, sentence: &str) {
        // It may hold names of tables and words of a server.
        let line = format!("{}: {}", self.name, plain(sentence));
        match &self.bar {
            Some(bar) => bar.suspend(|| output::say(&line)),
            None => output::say(&line),
        }
    }
}
