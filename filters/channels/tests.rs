//! Channels on made-up times.
