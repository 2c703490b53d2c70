//! A person with a phone in the waiting room.
