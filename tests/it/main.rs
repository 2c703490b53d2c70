//! Tests of the whole gateway: its own process, real sockets, real files.

#![allow(clippy::unwrap_used, clippy::panic, clippy::print_stderr)]

mod admin;
mod door;
mod limits;
mod proxy;
mod reload;
mod saves;
mod support;
