//! Our side: what the books of this shop say about payments.

/// What we hold a payment for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Standing {
    /// Nothing has been heard yet.
    Waiting,
    /// Nobody knows.
    Unknown,
    /// Paid.
    Paid,
    /// Closed, declined, failed: not paid.
    Dead,
}

/// A payment in our books.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OurPayment {
    /// Our number, as the channel was told.
    pub out_trade_no: String,
    /// What it pays for: one of several payments for the same is one too many.
    pub intent: String,
    /// Minor units.
    pub amount: i64,
    /// Three capital letters.
    pub currency: String,
    /// What we hold it for.
    pub standing: Standing,
    /// The same in the words of the books.
    pub status: String,
    /// When that was decided, in milliseconds.
    pub at_ms: i64,
    /// The channel's number, if it has told one.
    pub trade_no: Option<String>,
    /// Its refund, wanted or done.
    pub refund: Option<OurRefund>,
}

/// A refund in our books.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OurRefund {
    /// Our number of it, as the channel was told.
    pub refund_no: String,
    /// Minor units.
    pub amount: i64,
    /// When the channel agreed; absent while it has not.
    pub done_ms: Option<i64>,
}

/// Why our side could not be read.
#[derive(Debug, thiserror::Error)]
#[error("our books cannot be read: {0}")]
pub struct OursError(pub String);

impl From<rusqlite::Error> for OursError {
    fn from(error: rusqlite::Error) -> Self {
        Self(error.to_string())
    }
}

/// Our books for one channel: an iterator over the payments that changed, or were paid back, within the time looked at,
/// by number ascending (by bytes), and a look at any other.
pub trait Ours: Iterator<Item = Result<OurPayment, OursError>> {
    /// The payment with this number, whenever it was made.
    ///
    /// # Errors
    /// When the books cannot be read.
    fn look_up(&mut self, out_trade_no: &str) -> Result<Option<OurPayment>, OursError>;
}
