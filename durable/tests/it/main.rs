//! Tests of the store through its public face: real files, real threads, and a real kill.

mod crash;
mod group;
