//! The decisions of tidegate: who may pass now, who waits, who is told to come back.
//!
//! A filter here sees a request's head, a few verified facts about its sender and a clock reading, and answers with a
//! [`engine::Decision`]. It opens no socket, reads no file and never blocks: waiting, cancelling and answering are done
//! by the gateway, once, for all filters. That is why a filter's tests are plain function calls with made-up times.
//!
//! # Writing a filter in a page
//!
//! 1. A settings struct with `serde::Deserialize`, `schemars::JsonSchema` and `deny_unknown_fields`: what the file says.
//! 2. [`engine::FilterSpec`] for it: `check` finds nonsense, `build` makes the runtime half.
//! 3. [`engine::Filter`] for the runtime half: `stages` names the stages it takes part in, and one method a stage.
//! 4. What it must remember between requests goes into a [`engine::State`], taken from the registry in `build`, so that
//!    a reload finds it again.
//! 5. [`engine::Kinds::register`] gives it a name. `examples/custom_filter.rs` does all of this outside the tree.

//!
//! # What there is
//!
//! | Kind | Folder | What it does |
//! | --- | --- | --- |
//! | `rate_limit` | [`rate_limit`] | token buckets by user, route and for the whole |
//! | `queue` | [`queue`] | holds a request until one of so many places is free, or its time has come |
//! | `idempotency` | [`idempotency`] | a request with a key is carried out once; repeats get the first one's answer |
//! | `respond_async` | [`respond_async`] | writes a request down, answers 202, and lets it be sent later at a steady pace |
//! | `headers` | [`headers`] | sets, adds and removes headers on the way in and out |
//! | `circuit_breaker` | [`circuit_breaker`] | rests channels that fail, and probes them |
//! | `failover` | [`failover`] | chooses the channel: by order, weight or score |
//! | `waiting_room` | [`waiting_room`] | a line with numbers, turns and honest waits |
//!
//! Filters share [`condition`] (CEL on a request, compiled when the file is loaded) and [`channels`] (what is known of
//! upstreams: settings, quotas, probes, the record of tries). [`store`] keeps records that outlive the process.

pub mod channels;
pub mod circuit_breaker;

pub mod condition;
pub mod engine;
pub mod failover;
pub mod headers;
pub mod idempotency;
#[cfg(test)]
mod kill_points;
pub mod queue;
pub mod rate_limit;
pub mod respond_async;
pub mod store;
pub mod waiting_room;

use engine::Kinds;

/// The kinds that are built in. A gateway adds its own with [`Kinds::register`].
#[must_use]
pub fn builtin() -> Kinds {
    Kinds::empty()
        .register::<rate_limit::RateLimit>("rate_limit")
        .register::<queue::Queue>("queue")
        .register::<idempotency::Idempotency>("idempotency")
        .register::<respond_async::RespondAsync>("respond_async")
        .register::<headers::Headers>("headers")
        .register::<circuit_breaker::CircuitBreaker>("circuit_breaker")
        .register::<failover::Failover>("failover")
        .register::<waiting_room::WaitingRoom>("waiting_room")
}

impl Kinds {
    /// The kinds that are built in: the same as [`builtin`].
    #[must_use]
    pub fn builtin() -> Self {
        builtin()
    }
}
