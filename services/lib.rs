//! The backends bundled with tidegate: what a gateway for payments needs behind it to be tried out for real.
//!
//! Each service is a folder with the same face: `Settings` (plain data), `start(settings)` (binds, opens its files,
//! returns a [`support::Running`]) and `cli::Args` (the command line, turned into `Settings`). They talk to each other
//! over HTTP only, so each can be run alone, together in one process, or be replaced.
//!
//! [`accounts`] and [`reconciliation`] are served by the order process beside its own interface; [`outbox`] is how events
//! leave a transaction. [`check`] asks all files together whether everybody's books agree.

pub mod accounts;
pub mod all;
pub mod card_key;
pub mod channel_simulator;
pub mod check;
pub mod order;
pub mod outbox;
pub mod reconciliation;
pub mod support;
