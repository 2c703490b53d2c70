//! The channels of an upstream, and how a try on one of them ended.

use std::time::Duration;

use http::StatusCode;

/// Number of a channel within its upstream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ChannelId(pub u8);

/// Channels of one upstream, at most 64, as bits: a breaker clears, failover chooses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ChannelSet(pub u64);

impl ChannelSet {
    /// The first `count` channels.
    #[must_use]
    pub fn all(count: usize) -> Self {
        Self(if count >= 64 { u64::MAX } else { (1 << count) - 1 })
    }

    /// One channel.
    #[must_use]
    pub fn only(id: ChannelId) -> Self {
        Self(1 << id.0)
    }

    /// Whether the channel is in the set.
    #[must_use]
    pub fn has(self, id: ChannelId) -> bool {
        self.0 & (1 << id.0) != 0
    }

    /// The channel with the lowest number; `None` when empty.
    #[must_use]
    pub fn first(self) -> Option<ChannelId> {
        u8::try_from(self.0.trailing_zeros()).ok().filter(|n| *n < 64).map(ChannelId)
    }

    /// The first channel at or behind `start`, going round; `None` when empty.
    #[must_use]
    pub fn next_from(self, start: u8) -> Option<ChannelId> {
        let behind = ChannelSet(self.0 & u64::MAX.checked_shl(u32::from(start)).unwrap_or(0));
        behind.first().or_else(|| self.first())
    }

    /// The channels of the set, lowest number first.
    pub fn iter(self) -> impl Iterator<Item = ChannelId> {
        let mut left = self;
        std::iter::from_fn(move || {
            let id = left.first()?;
            left.remove(id);
            Some(id)
        })
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// How many there are.
    #[must_use]
    pub fn len(self) -> usize {
        self.0.count_ones() as usize
    }

    /// Only those that are in `other`, too.
    #[must_use]
    pub fn and(self, other: ChannelSet) -> ChannelSet {
        ChannelSet(self.0 & other.0)
    }

    /// Only those that are not in `other`.
    #[must_use]
    pub fn without(self, other: ChannelSet) -> ChannelSet {
        ChannelSet(self.0 & !other.0)
    }

    /// Puts a channel in.
    pub fn insert(&mut self, id: ChannelId) {
        self.0 |= 1 << id.0;
    }

    /// Takes a channel out.
    pub fn remove(&mut self, id: ChannelId) {
        self.0 &= !(1 << id.0);
    }
}

/// Number of an upstream within a snapshot.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct UpstreamId(pub u16);

/// One choice of a channel. The upstream is the context's.
pub struct Attempt {
    /// 1 for the first try.
    pub number: u8,
    /// Whether the request itself names its channel (`Tidegate-Channel`): there is nothing to choose then.
    pub pinned: bool,
    /// Whether its method is safe (RFC 9110 §9.2.1): asking twice does nothing twice.
    pub safe: bool,
    /// Channels that may still be tried.
    pub candidates: ChannelSet,
    /// The choice, if a filter made one; otherwise the upstream's own rotation decides.
    pub chosen: Option<ChannelId>,
}

/// What is known about a request at its upstream (the `Tidegate-Outcome` header). Only the first two allow another channel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Known {
    /// No byte of the request reached the upstream.
    NotSent,
    /// The upstream says, in a way that can be relied on, that it did not act.
    NotProcessed,
    /// It may have acted.
    Unknown,
    /// It answered.
    Final,
}

impl Known {
    /// The word used in headers and logs.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Known::NotSent => "not-sent",
            Known::NotProcessed => "not-processed",
            Known::Unknown => "unknown",
            Known::Final => "final",
        }
    }
}

/// How a try ended.
pub struct AttemptEnd {
    /// Where it went.
    pub channel: ChannelId,
    /// What happened.
    pub result: AttemptResult,
    /// What that says about the request.
    pub known: Known,
    /// From the choice of the channel to the status, or to the failure.
    pub took: Duration,
    /// Whether the request could be sent once more: its body is still whole and its method allows it.
    pub replayable: bool,
}

/// What is known about a try.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AttemptResult {
    /// A status arrived.
    Status(StatusCode),
    /// No connection: nothing was sent.
    ConnectFailed,
    /// The connection broke after something may have been sent.
    Broken,
    /// No answer in time.
    TimedOut,
    /// The channel answered that it will not do this. No fault of the channel's when it is about the payer (`hard`:
    /// no money, a stolen card); its own when it is about itself (maintenance, its limit), and then another channel may.
    Declined {
        /// Whether every other channel would say the same.
        hard: bool,
    },
}

/// How a request ended.
pub struct Outcome {
    /// What the client was sent; `None` when it got nothing.
    pub status: Option<StatusCode>,
    /// Whether the client left before the end.
    pub client_gone: bool,
    /// From the head's last byte to the end.
    pub took: Duration,
    /// What is known about it at its upstream; `None` when it never was on its way to one.
    pub known: Option<Known>,
}
