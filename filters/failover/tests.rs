//! Choices on made-up times.
