//! A waiting room: who may enter now, who has which place in line, and how long it will take.
//!
//! **Stage.** Request, among the waits; response, for what the backend says about a visit ([`command`]).
//!
//! **Method.** A visitor carries a number in a signed token ([`token`]); the room keeps three bits for it ([`Room`]). The
//! frontier moves over the numbers, by as many *present* waiters as there are free places, so those who left hold up
//! nobody ([`Line`]). Numbers, turns and visits are written down before they are told ([`Journal`]): a kill loses no place,
//! gives no number twice, and lets nobody in too many. Common practice counts by the minute and holds a leaver's place for
//! five minutes; here order and limits are exact.
//!
//! **Units.** Moments are milliseconds since 1970 by a clock that never goes back, over restarts too; seconds in tokens.
//!
//! **Fails.** When the journal cannot be written nobody new is admitted, those inside and in line stay. A clock that was
//! set back stands still until it has caught up.
//!
//! **Wrong for.** A line over several gateways: each would have its own. Keeping bots out: it only makes them wait as
//! everybody does, and takes their numbers away unless they keep cookies.

mod aimd;
mod backends;
mod bypass;
pub mod command;
mod common;
pub mod compatible;
mod cookie;
mod deadlines;
pub mod desk;
pub mod document;
pub mod draw;
mod events;
mod gate;
pub mod keys;
mod leases;
mod line;
mod long_poll;
mod marks;
mod obey;
mod operate;
mod pace;
mod public;
mod record;
mod room;
pub mod rules;
mod samples;
mod seats;
pub mod settings;
pub mod simulation;
mod spec;
#[cfg(test)]
mod tests;
pub mod token;
mod visitor;
mod window;

pub use aimd::{Aimd, Control, Health};
pub use bypass::Bypass;
pub use common::Common;
pub use cookie::TICKET_HEADER;
pub use line::{Admission, Claim, Entry, Line, Look, Lottery, Outlook, Prediction, Proof, Reason, State, Visitor};
pub use pace::{Estimate, poll_after};
pub use public::{Level, Notice};
pub use record::{Forgetful, History, Journal};
pub use room::{Counts, Opening, Room};
pub use spec::WaitingRoom;
