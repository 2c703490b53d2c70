//! What the service knows: orders, payments, and the words for their states.

use serde::Serialize;

/// An enum whose variants have one name each, the same in the file, in JSON and in metrics.
macro_rules! words {
    ($(#[$outer:meta])* $name:ident { $($(#[$inner:meta])* $variant:ident = $word:literal),+ $(,)? }) => {
        $(#[$outer])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        pub(super) enum $name { $($(#[$inner])* $variant),+ }

        impl $name {
            /// All of them.
            pub(super) const ALL: &[Self] = &[$(Self::$variant),+];

            /// The word for it.
            pub(super) fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $word),+ }
            }

            /// What the word stands for.
            pub(super) fn parse(word: &str) -> Option<Self> {
                Self::ALL.iter().copied().find(|one| one.as_str() == word)
            }
        }

        impl rusqlite::ToSql for $name {
            fn to_sql(&self) -> rusqlite::Result<rusqlite::types::ToSqlOutput<'_>> {
                Ok(self.as_str().into())
            }
        }

        impl rusqlite::types::FromSql for $name {
            fn column_result(value: rusqlite::types::ValueRef<'_>) -> rusqlite::types::FromSqlResult<Self> {
                Self::parse(value.as_str()?).ok_or(rusqlite::types::FromSqlError::InvalidType)
            }
        }

        impl Serialize for $name {
            fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.serialize_str(self.as_str())
            }
        }
    };
}

words! {
    /// State of an order.
    OrderStatus {
        /// Written down, keys not reserved yet.
        Creating = "CREATING",
        /// Keys are reserved, the buyer may pay.
        PendingPayment = "PENDING_PAYMENT",
        /// To be cancelled or expired as soon as its payment is closed at the channel.
        Closing = "CLOSING",
        /// Paid; the keys are about to be issued.
        Paid = "PAID",
        /// The keys are the buyer's.
        Delivered = "DELIVERED",
        /// Paid, cannot be delivered; the money is on its way back.
        Refunding = "REFUNDING",
        /// The money is back.
        Refunded = "REFUNDED",
        /// Never became an order that can be paid; `fail_code` says why.
        Failed = "FAILED",
        /// Given up by the buyer.
        Cancelled = "CANCELLED",
        /// Not paid in time.
        Expired = "EXPIRED",
    }
}

words! {
    /// State of a payment.
    PaymentStatus {
        /// Written down before the channel is called; it may have been called.
        Created = "CREATED",
        /// The channel waits for the payer.
        Pending = "PENDING",
        /// It is not known whether the channel has charged. Nothing else is tried until it is.
        Unknown = "UNKNOWN",
        /// The channel has charged.
        Success = "SUCCESS",
        /// The channel has refused; nothing was charged.
        Declined = "DECLINED",
        /// Closed at the channel; nothing was charged.
        Closed = "CLOSED",
        /// Never reached the channel, or was refused as a request.
        Failed = "FAILED",
    }
}

impl PaymentStatus {
    /// Whether the outcome is still open. An order has at most one such payment.
    pub(super) fn is_live(self) -> bool {
        matches!(self, Self::Created | Self::Pending | Self::Unknown)
    }
}

words! {
    /// A payment channel.
    Channel {
        /// Alipay.
        Alipay = "alipay",
        /// WeChat Pay.
        Wechat = "wechat",
        /// UnionPay.
        Union = "union",
    }
}

words! {
    /// How a buyer wants to pay: by a certain channel, or by whichever the gateway takes.
    Method {
        /// The gateway chooses.
        Any = "any",
        /// Alipay.
        Alipay = "alipay",
        /// WeChat Pay.
        Wechat = "wechat",
        /// UnionPay.
        Union = "union",
    }
}

impl Method {
    /// The channel it is bound to; absent when the gateway chooses.
    pub(super) fn channel(self) -> Option<Channel> {
        Channel::parse(self.as_str())
    }
}

words! {
    /// Something to be done at another service, written down before it is tried.
    TaskKind {
        /// Reserve the keys of a CREATING order.
        Reserve = "RESERVE",
        /// Give the reservation of an order back.
        Release = "RELEASE",
        /// Have the keys of a PAID order issued.
        Deliver = "DELIVER",
        /// Pay a payment back.
        Refund = "REFUND",
    }
}

words! {
    /// How far a refund has come.
    Refund {
        /// To be asked for, again and again until the channel has agreed.
        Wanted = "WANTED",
        /// The channel has agreed.
        Done = "DONE",
    }
}

/// An order as stored.
#[derive(Debug, Clone)]
pub(super) struct Order {
    pub(super) order_no: String,
    pub(super) user: String,
    pub(super) sku: String,
    pub(super) qty: u32,
    /// Minor units; price times quantity at the time of the order.
    pub(super) amount: i64,
    pub(super) currency: String,
    pub(super) status: OrderStatus,
    pub(super) fail_code: Option<String>,
    /// What a CLOSING order becomes.
    pub(super) closing_to: Option<OrderStatus>,
    /// The payment that paid for it.
    pub(super) paid_payment: Option<String>,
    pub(super) created_ms: i64,
    pub(super) expires_ms: i64,
}

/// A payment as stored.
#[derive(Debug, Clone)]
pub(super) struct Payment {
    pub(super) payment_no: String,
    pub(super) order_no: String,
    /// What the buyer chose.
    pub(super) method: Method,
    /// Where the payment is; absent while nobody knows.
    pub(super) channel: Option<Channel>,
    pub(super) amount: i64,
    pub(super) currency: String,
    pub(super) status: PaymentStatus,
    pub(super) trade_no: Option<String>,
    pub(super) refund: Option<Refund>,
    pub(super) close_wanted: bool,
    /// How often the resolver has asked.
    pub(super) tries: u32,
    /// How often in a row the channel did not know the number.
    pub(super) not_found: u32,
    /// When it last changed its state or was last sent to its channel.
    pub(super) updated_ms: i64,
}

/// An entry of an order's history.
#[derive(Debug, Clone, Serialize)]
pub(super) struct Event {
    pub(super) at_ms: i64,
    pub(super) kind: String,
    pub(super) detail: String,
}

/// Why an operation did not happen.
#[derive(Debug, thiserror::Error)]
pub(super) enum Refusal {
    #[error("no such order")]
    NoOrder,
    #[error("no such payment")]
    NoPayment,
    #[error("the idempotency key was used with another request")]
    KeyReused,
    #[error("the order is {0:?}")]
    WrongState(OrderStatus),
    #[error("one person gets {0} at most")]
    Enough(u32),
    #[error("the time to pay is over")]
    TooLate,
    #[error("payment {0} is not decided")]
    PaymentLive(String),
    #[error(transparent)]
    Sqlite(#[from] rusqlite::Error),
}
