//! The door: what it lets in, what it answers itself, when it closes.

mod bounds;
mod framing;
mod keepalive;
mod slow;
mod smuggling;
mod tls;
