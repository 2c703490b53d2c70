//! The ways in which a payment channel fails, by name.

use serde::{Deserialize, Serialize};

/// A way to fail. Of those that begin with `charge_` the money has moved, and is in the ledger on disk, before
/// anything else goes wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(in crate::channel_simulator) enum Kind {
    /// Nobody listens: connections are refused.
    Refuse,
    /// The queue of new connections is full, so that connecting takes for ever; with `accept`, connections come about and
    /// nothing is read from them.
    Blackhole,
    /// RST as soon as there is a connection.
    RstBeforeRead,
    /// RST after `bytes` bytes of the connection were read.
    RstAfterNBytes,
    /// The call is read to its end, nothing is done, the connection is closed.
    ReadAllThenClose,
    /// Charged, and then no answer.
    ChargeThenHang,
    /// Charged, and then RST.
    ChargeThenRst,
    /// Charged, and then status 500.
    #[serde(rename = "charge_then_500")]
    ChargeThen500,
    /// Nothing is done, and no answer.
    NoChargeThenHang,
    /// The answer's body takes `ms`.
    SlowBody,
    /// The answer ends before the length that it announced, after `bytes` or half of it.
    Truncate,
    /// The answer's body is no JSON.
    BadJson,
    /// The answer is signed with something else than the channel's key.
    BadSignature,
    /// HTTP/2 only: GOAWAY that excludes the call, which was not looked at; `code` 0 unless given.
    Goaway,
    /// HTTP/2 only: the stream is refused, the call was not looked at.
    RefusedStream,
    /// HTTP/2 only: the call is carried out, and instead of the answer comes a frame that breaks the protocol.
    H2ProtocolError,
    /// Charged, and the answer says that there was a system error.
    SystemErrorCharged,
    /// Nothing is done, and the answer says that there was a system error.
    SystemErrorNotCharged,
    /// The answer says that the payment is being processed; it is charged after `ms`.
    ProcessingThenSuccess,
    /// The answer says that the payment is being processed; it is declined after `ms`.
    ProcessingThenFail,
    /// Declined for a reason that holds for every channel.
    DeclineHard,
    /// Declined for a reason of this channel's own.
    DeclineSoft,
    /// The answer has another amount than what was charged.
    WrongAmount,
    /// Nothing is done: 503, or with `code` a decline.
    MaintenanceWindow,
    /// Status 425, nothing was done.
    #[serde(rename = "425")]
    TooEarly,
    /// Status 429, nothing was done.
    #[serde(rename = "429")]
    TooMany,
    /// Status 503, nothing was done.
    #[serde(rename = "503")]
    Unavailable,
}

/// What has been seen of a call when its fault is chosen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::channel_simulator) enum Level {
    /// Nothing: the fault is the listener's.
    Door,
    /// A connection.
    Connection,
    /// All of the call.
    Request,
}

impl Kind {
    /// Every kind, in the order in which they are described.
    pub(in crate::channel_simulator) const ALL: [Self; 27] = [
        Self::Refuse,
        Self::Blackhole,
        Self::RstBeforeRead,
        Self::RstAfterNBytes,
        Self::ReadAllThenClose,
        Self::ChargeThenHang,
        Self::ChargeThenRst,
        Self::ChargeThen500,
        Self::NoChargeThenHang,
        Self::SlowBody,
        Self::Truncate,
        Self::BadJson,
        Self::BadSignature,
        Self::Goaway,
        Self::RefusedStream,
        Self::H2ProtocolError,
        Self::SystemErrorCharged,
        Self::SystemErrorNotCharged,
        Self::ProcessingThenSuccess,
        Self::ProcessingThenFail,
        Self::DeclineHard,
        Self::DeclineSoft,
        Self::WrongAmount,
        Self::MaintenanceWindow,
        Self::TooEarly,
        Self::TooMany,
        Self::Unavailable,
    ];

    /// Its name in a plan.
    pub(in crate::channel_simulator) fn name(self) -> String {
        let name = serde_json::to_value(self).ok();
        name.and_then(|name| name.as_str().map(str::to_owned)).unwrap_or_default()
    }

    /// What has to be seen of a call before it can meet this fault.
    pub(in crate::channel_simulator) fn level(self) -> Level {
        match self {
            Self::Refuse | Self::Blackhole => Level::Door,
            Self::RstBeforeRead | Self::RstAfterNBytes => Level::Connection,
            _ => Level::Request,
        }
    }

    /// Whether the money moves before the fault shows.
    pub(in crate::channel_simulator) fn charges(self) -> bool {
        matches!(self, Self::ChargeThenHang | Self::ChargeThenRst | Self::ChargeThen500 | Self::SystemErrorCharged)
    }

    /// Whether it changes what becomes of a payment.
    pub(in crate::channel_simulator) fn decides(self) -> bool {
        matches!(self, Self::ProcessingThenSuccess | Self::ProcessingThenFail | Self::DeclineHard | Self::DeclineSoft)
    }

    /// Whether it can only be told in HTTP/2.
    pub(in crate::channel_simulator) fn needs_http2(self) -> bool {
        matches!(self, Self::Goaway | Self::RefusedStream | Self::H2ProtocolError)
    }
}
