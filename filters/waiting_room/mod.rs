//! A waiting room: who may enter now, who has which place in line, and how long it will take.

pub mod draw;
pub mod keys;
#[cfg(test)]
mod tests;
pub mod token;
