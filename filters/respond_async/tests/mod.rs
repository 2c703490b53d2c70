//! The filter and what it writes down, without a gateway.

mod shelf;
mod words;
