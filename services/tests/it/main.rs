//! The services as their clients see them: real HTTP on port 0, real files, real kills.

mod accounts;
mod card_key;
mod channel_simulator;
mod check;
mod order;
mod process;
mod reconciliation;
