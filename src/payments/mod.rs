//! Payments: requests that move money, carried so that a failure never charges twice.
//!
//! A request to an upstream of class `payment` whose method is not safe does not stream through. The gateway reads it
//! whole (at most 64 KiB), writes a row into its [`journal`], sends it to one channel over a client that knows what the
//! kernel took (`wire`), reads the whole answer, judges it ([`outcome`]), writes that down, and only then may another
//! channel see it (`pay`). What stays unknown is asked for in the background (`resolver`). A payment that names its channel
//! with `Tidegate-Channel` goes there or nowhere. GET and HEAD, and requests that name their channel and no number of a
//! payment, such as a close or a refund, take the ordinary way: they are their sender's own affair.
//!
//! # The contract with a service that pays through the gateway
//!
//! - The number (`payment.id`) is the service's own and one payment's for ever. It goes to every channel as it is, since
//!   each channel has a space of numbers of its own; the body goes to every channel unchanged.
//! - Amount, currency, type, path and what `payment.frozen` names belong to the number. Another content with the same
//!   number is refused with 422 `payment-id-reused`, and nothing is sent.
//! - The channel's own answer comes back when it tells the outcome: success, decline, rejection, pending. `Tidegate-Channel`
//!   names the channel, `Tidegate-Attempts` counts tries, `Tidegate-Outcome` is `final`, or `not-processed` when every
//!   channel refused without acting.
//! - 202 with `Location`, `Retry-After` and `Tidegate-Outcome: unknown` means that nobody knows yet. Ask at `Location`,
//!   or send the same request again: it is sent on only to the channel that has it, and only if that is `idempotent`.
//! - 200 with `"status"` of a known number means that it was decided earlier; nothing was sent.
//! - 503 with `Tidegate-Outcome: not-sent` means that no channel has seen it. The same number may be sent again. With
//!   `unknown` it means that the journal could not be read: an earlier request may have been sent.
//! - `Tidegate-Channel` in a request says that it goes to that channel or to none.
//! - Where `payment.paths` are given, a request to another path is about a payment and none itself. It names its channel,
//!   and nothing is written down.
//! - A client that leaves cancels nothing.
//! - Where a channel has a `signature`, its answers must be signed: an answer of 2xx that is not, or any other that is signed
//!   badly, leaves the outcome unknown.
//! - A payment never returns to a channel that it has left, except to one that it did not reach or that did not act.
//! - Without a journal a payment is tried on one channel, once: 502 or 504 with `Tidegate-Outcome: unknown` when nobody
//!   knows. Failing closed is the point: failover without a memory is how payments are charged twice.

pub(crate) mod answer;
pub mod engine;
mod frozen;
mod held;
pub(crate) mod job;
pub mod journal;
mod judge;
mod metrics;
pub mod outcome;
mod pause;
pub(crate) mod pay;
pub(crate) mod plan;
pub(crate) mod resolver;
mod signature;
pub(crate) mod status;
pub(crate) mod wire;

pub use engine::Payments;
pub(crate) use engine::{Engine, FILE as JOURNAL, unix_ms};
pub(crate) use frozen::{find as find_part, read as read_frozen};
pub(crate) use journal::Frozen;
pub(crate) use plan::Plan;
