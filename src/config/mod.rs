//! The configuration file: its format, its checks, and what it means.
//!
//! Text → `parse` (a tree with places) → `decode` (the structs of `file`) → `check` (a [`Config`]). Each step
//! goes on behind what it finds wrong, so that one run reports everything: unknown keys, wrong types, impossible
//! numbers, names that nobody defines. Nothing here opens a socket or remembers anything; a reload calls it again and
//! keeps the old configuration when a [`Report`] comes back.
//!
//! Invariant: no secret leaves this module except as a [`Secret`]. Reports and the redacted text show `${NAME}` where
//! the environment was used and `***` where a literal stood at a key that announces a secret.

mod check;
mod check_admission;
mod check_filters;
mod check_identity;
mod check_page;
mod check_payments;
mod check_rooms;
mod check_routes;
mod check_server;
mod check_signature;
mod check_stores;
mod check_tls;
mod check_upstreams;
mod decode;
mod decode_error;
mod edit;
mod environment;
mod file;
mod file_admission;
mod file_channel;
mod file_page;
mod file_payments;
mod file_rooms;
mod file_server;
mod file_signature;
mod finding;
mod load;
mod made_up;
mod moment;
mod parse;
mod paths;
mod placed;
mod problem;
mod restart;
mod scalars;
mod schema;
mod secret;
mod session;
mod source;
mod suggest;
#[cfg(test)]
mod tests;
mod tree;
mod types;
mod types_payments;
mod types_upstream;
mod value;

pub use edit::{EditError, RoomEdit, edit_room};
pub use load::{LARGEST_FILE, Loaded, load, load_text};
pub use problem::{Problem, Report};
pub use restart::restart_required;
pub use schema::schema;
pub use secret::Secret;
pub use types::*;
pub use types_payments::*;
