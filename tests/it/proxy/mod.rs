//! Requests that go through: what the origin sees, what comes back, what happens when it does not.

mod bodies;
mod connections;
mod edges;
mod faults;
mod forwarding;
mod h2_frames;
mod h2_heads;
mod h2c;
mod outcomes;
mod routing;
mod sound;
mod streaming;
mod tls;
mod websocket;
