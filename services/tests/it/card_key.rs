//! The card-key service.
