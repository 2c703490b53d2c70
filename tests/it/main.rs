//! Tests of the whole gateway: its own process, real sockets, real files.

#![allow(clippy::unwrap_used, clippy::panic, clippy::print_stderr)]

mod admin;
mod custom_filter;
mod door;
mod limits;
mod proxy;
mod reload;
mod saves;
mod shop;
mod support;
mod waiting_room;
