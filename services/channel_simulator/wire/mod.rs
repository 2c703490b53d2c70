//! Connections, served one by one, so that they can be broken in the ways in which connections break.
//!
//! A handler says how a connection ends by an [`Ending`] in its answer; the task that looks after the connection does
//! it. That task owns the socket together with the HTTP machinery in it: it can reset it, close it, or write bytes into
//! it that the machinery would never write.
//!
//! | File | What |
//! | --- | --- |
//! | `door` | the listener: open, closed, or a black hole |
//! | `connection` | the task of one connection |
//! | `line` | the socket as the HTTP machinery sees it: it counts, and stops after so many bytes |
//! | `ending` | the ways in which an exchange ends, and bodies that do not end well |

mod connection;
mod door;
mod ending;
mod line;

pub(super) use connection::Arrival;
pub(super) use door::serve;
pub(super) use ending::{Ending, slow, truncated};
