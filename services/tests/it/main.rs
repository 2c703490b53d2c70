//! The services as their clients see them: real HTTP on port 0, real files, real kills.

mod card_key;
mod order;
mod process;
