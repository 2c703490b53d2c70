//! The filter and what it writes down, without a gateway.

mod kills;
mod power;
mod shelf;
mod words;
