//! What `headers` promises.
