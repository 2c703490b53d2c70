//! A waiting room: who may enter now, who has which place in line, and how long it will take.

mod deadlines;
pub mod draw;
pub mod keys;
mod leases;
mod line;
mod marks;
mod pace;
mod record;
mod room;
pub mod rules;
#[cfg(test)]
mod tests;
pub mod token;
mod window;

pub use line::{Admission, Claim, Entry, Line, Outlook, Prediction, Reason, State, Visitor};
pub use pace::{Estimate, poll_after};
pub use record::{Forgetful, History, Journal};
pub use room::{Counts, Opening, Room};
