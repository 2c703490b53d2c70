//! What runs filters: the trait, the chain, the request's context, and the memory that outlives a reload.

mod chain;
mod channel;
mod context;
mod decision;
mod filter;
mod head;
mod key;
mod permit;
mod spec;
mod state;
#[cfg(test)]
mod tests;
mod units;

pub use chain::{ChainLink, FilterChain, LinkCounters, Mode};
pub use channel::{Attempt, AttemptEnd, AttemptResult, ChannelId, ChannelSet, Known, Outcome, UpstreamId};
pub use context::{Decider, HeaderEdit, Priority, RequestContext};
pub use decision::{Decision, Problem, Reply, ReplyBody, ReplyStream, Resume, Retry, Verdict, Wait};
pub use filter::{Captured, Filter, HeldBack, Stages};
pub use head::{HeaderPair, RequestHead};
pub use key::{Identity, IdentityId, Key, KeyHasher};
pub use permit::{Permit, Release};
pub use spec::{BuildContext, BuildError, CheckContext, FilterSpec, Kind, Kinds, Problems, SpecProblem, Step};
pub use state::{Acquired, Sample, SampleKind, State, StateKey, StateRegistry};
pub use units::{ByteSize, Nanos, Rate, TimeSpan, UnitError};
