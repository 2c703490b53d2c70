//! Deferred requests on the gateway's side: sending them, and telling their owners where they stand.
//!
//! `filters/respond_async` decides and remembers; this carries. [`Worker`] takes from each book what is due, writes down
//! that it is being sent, sends it over the client that counts bytes (`payments::wire`), and writes down what came
//! of it. A request for a payment upstream goes through the payment engine with all its rules: its journal knows what is in
//! doubt, also behind a crash, and its resolver finds out. For any other upstream what is in doubt stays so until a person
//! decides, unless the file says that the upstream recognises keys.

mod events;
mod keep;
mod pay;
mod send;
pub(crate) mod status;
#[cfg(test)]
mod tests;
mod worker;

pub use worker::Worker;
