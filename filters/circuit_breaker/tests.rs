//! Breakers on made-up times.
