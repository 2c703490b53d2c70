//! What all services share: starting and stopping, the form of an error answer, logging, the clock, counters,
//! secrets and signatures, numbers and shards.

pub mod checks;
mod clock;
mod counter;
pub mod dialect;
mod hex;
mod idempotency;
mod logging;
mod look;
mod problem;
mod running;
mod secret;
mod shard;
mod sharded;
pub mod signature;

pub use clock::{moment, rfc3339, unix_ms};
pub use counter::Counter;
pub use hex::{hex, unhex};
pub use idempotency::idempotency_key;
pub use logging::log_to_stderr;
pub use look::look_into;
pub use problem::{PROBLEM_JSON, Problem};
pub use running::{Running, StartError, Stop, bind, run_until_signal, serve_router};
pub use secret::Secret;
pub use shard::{Files, Shard};
pub use sharded::open_sharded;
