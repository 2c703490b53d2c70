//! Tests of the whole gateway: its own process, real sockets, real files.

#![allow(clippy::unwrap_used, clippy::panic, clippy::print_stderr)]

mod admin;
mod admission;
mod breaker;
mod commands;
mod custom_filter;
mod deferred;
mod door;
mod failover;
mod health;
mod limits;
mod once;
mod payments;
mod proxy;
mod queue;
mod reload;
mod room_crowd;
mod room_kills;
mod saves;
mod shop;
mod support;
mod waiting_room;
