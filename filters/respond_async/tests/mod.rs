//! The filter and what it writes down, without a gateway.

mod forgetting;
mod kills;
mod orphans;
mod power;
mod shelf;
mod words;
