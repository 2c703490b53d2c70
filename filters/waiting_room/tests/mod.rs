//! Tests of the waiting room.

mod tokens;
