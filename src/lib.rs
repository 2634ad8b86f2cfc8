//! # lifeboat: a backup is a promise, lifeboat is the proof
//!
//! The map of the house. Who may call whom: `cli → engine → {backup, seal, store, scratch, probe, checks, catalog} → domain`;
//! `judge`, `render`, `load → domain`. No circle. `ARCHITECTURE.md` says more.
//!
//! | room | what it is |
//! |---|---|
//! | [`cli`] | arguments, one file a verb, exit codes |
//! | [`domain`] | pure: the nouns |
//! | [`judge`] | pure: the decisions |
//! | [`render`] | pure: transcript and facts to report, runbook, status |
//! | [`load`] | TOML text to domain, every error with its place |
//! | [`engine`] | what happens in which order |
//! | [`backup`] | ways to take a backup and to put it back |
//! | [`seal`] | the stream between database and store |
//! | [`store`] | where artifacts live |
//! | [`scratch`] | the disposable target of a drill |
//! | [`probe`] | asks a database |
//! | [`checks`] | the assertions about a restored database |
//! | [`catalog`] | runs, artifacts, events |
//! | [`notify`] | delivers letters: chat, pagers, mail, webhooks |
//! | [`telemetry`] | logs, metrics, traces, signs of life |
//! | [`web`] | what is answered over HTTP: metrics and health |
//! | [`programs`] | PostgreSQL's own programs |
//! | [`progress`], [`clock`] | seams to the terminal and the wall clock |

pub mod backup;
pub mod catalog;
pub mod checks;
pub mod cli;
pub mod clock;
pub mod domain;
pub mod engine;
pub mod judge;
pub mod load;
pub mod notify;
pub mod probe;
pub mod programs;
pub mod progress;
pub mod render;
pub mod scratch;
pub mod seal;
pub mod store;
pub mod telemetry;
pub mod web;
