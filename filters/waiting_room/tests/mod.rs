//! Tests of the waiting room.

mod commands;
mod crowd;
mod desk;
mod documents;
mod doubts;
mod events;
mod fairness;
mod gates;
mod health;
mod kill_model;
mod kills;
mod long_polls;
mod model;
mod proofs;
mod rooms;
mod slow;
mod stock;
mod support;
mod tokens;
