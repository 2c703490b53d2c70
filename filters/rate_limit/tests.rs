//! What `rate_limit` promises, on made-up times.
