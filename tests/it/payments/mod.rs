//! Payments: whatever a channel does, nobody is charged twice.
//!
//! Channels are scripted and count what really reached them; every test asks three sides: the channels, the client, and
//! the journal.

mod choosing;
mod clients;
mod crash;
pub(crate) mod desk;
mod doubts;
mod http2;
mod journal;
mod rows;
mod shared;
mod signed;
mod surface;
mod truth;
