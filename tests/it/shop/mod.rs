//! The bundled shop behind the gateway, with the configuration that is shipped: what a buyer and a shop are promised.

mod browser;
mod buyer;
mod crash;
mod crowd;
mod deferred;
mod faults;
mod flood;
mod set_up;
mod storm;
mod waiting;
