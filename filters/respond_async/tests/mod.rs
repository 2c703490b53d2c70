//! The filter and what it writes down, without a gateway.

mod power;
mod shelf;
mod words;
