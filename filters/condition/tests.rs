//! What conditions promise.
