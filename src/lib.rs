//! tidegate: an edge gateway for payment backends, on pingora.
//!
//! pingora carries connections, TLS and HTTP/2, the gateway itself what goes from HTTP/1 to HTTP/1.1;
//! [`tidegate_filters`] decides, [`config`] says what is wanted, and nothing that has been
//! remembered is forgotten by a reload.
//!
//! # One request, in eight steps
//!
//! 1. [`door`] reads the head under a deadline, finds it strictly well-formed, and pins the current [`snapshot`]. From
//!    here to the last byte the request lives under one configuration.
//! 2. Listener, host and path find the route; its chain runs in file order, at the door for HTTP/1 and in
//!    `request_filter` for HTTP/2: continue, respond, wait, need body.
//! 3. *Respond*: the reply is written and step 8 follows. *Wait*: [`proxy`] parks the request; afterwards the chain goes on.
//! 4. Permits are in the request's context and come back when it is dropped.
//! 5. The attempt stage narrows the candidate channels and chooses one; header edits apply; bytes flow, by `proxy::h1`
//!    from HTTP/1 to HTTP/1.1 and by pingora otherwise.
//! 6. The try ends. Only what is known about the wire may lead back to step 5. Requests that move money take steps 5
//!    and 6 in [`payments`], which reads and answers whole and writes every try down first.
//! 7. The response stage runs in reverse order: header edits, chunks for filters that asked.
//! 8. Finish: one access-log line, counters, release.
//!
//! # Invariants
//!
//! - A request sees one snapshot from its first byte to its last.
//! - A reload is all or nothing, and forgives no debt: states are found by identity, not made anew.
//! - What a filter took is given back on every way out.
//! - Client-sent `X-Tidegate-*`, `Tidegate-*` and identity headers reach neither a decision nor an upstream.

pub mod admin;
pub mod cli;
pub mod config;
pub mod door;
pub mod gateway;
pub mod health;
pub mod identity;
pub mod payments;
pub mod proxy;
pub mod reload;
pub mod server;
pub mod snapshot;
pub mod telemetry;
mod upstream_tls;
pub mod waiting_room;
