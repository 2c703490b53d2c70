//! Reconciliation.
pub mod bill;
pub mod day;
mod model;
