//! Why an operation did not happen, and how a client hears of it.

use axum::http::StatusCode;
use tidegate_durable::StoreError;

use crate::support::Problem;

/// Seconds after which it makes sense to ask again for keys that others hold and have not paid.
const ASK_AGAIN_SECONDS: u64 = 5;

/// Why an operation on the rows did not happen. Nothing of it was kept.
#[derive(Debug, thiserror::Error)]
pub(super) enum Refusal {
    #[error("not enough free keys")]
    OutOfStock,
    #[error("the order number is known with another sku or quantity")]
    Mismatch,
    #[error("the keys of the order have been issued")]
    AlreadyAllocated,
    #[error("the order is paid")]
    AlreadyPaid,
    #[error("the money of the order went back")]
    Refunded,
    #[error("the order is not paid")]
    NotPaid,
    #[error("the order does not wait for the seller")]
    NotAwaiting,
    #[error("unknown sku")]
    UnknownSku,
    #[error("unknown order")]
    UnknownOrder,
    #[error("unknown batch")]
    UnknownBatch,
    #[error("the product has keys or orders of its kind")]
    KindFixed,
    #[error("the products are of different kinds")]
    OtherKind,
    #[error("the principal has too many unpaid orders")]
    TooManyOpen,
    #[error("too much of the stock is held by unpaid orders")]
    StockHeld,
    #[error("more than one {0} may have")]
    Limit(&'static str),
    #[error("a chosen key is not free")]
    KeyTaken,
    #[error("the coupon cannot be used: {0}")]
    Coupon(&'static str),
    #[error("another amount was paid than the order costs")]
    AmountMismatch,
    #[error("the event is known with another content")]
    EventMismatch,
    #[error("the batch has got more keys")]
    BatchMismatch,
    #[error("the key on line {0} is a duplicate")]
    Duplicate(u64),
    #[error(transparent)]
    Sqlite(#[from] rusqlite::Error),
}

impl From<Refusal> for Problem {
    fn from(refusal: Refusal) -> Self {
        let conflict = |code, detail: &str| Self::new(StatusCode::CONFLICT, code, detail);
        let mismatch = |code, detail: &str| Self::new(StatusCode::UNPROCESSABLE_ENTITY, code, detail);
        let unknown = |code, detail: &str| Self::new(StatusCode::NOT_FOUND, code, detail);
        match refusal {
            Refusal::OutOfStock => conflict("OUT_OF_STOCK", "There are not enough keys in stock."),
            Refusal::AlreadyAllocated => conflict("ALREADY_ALLOCATED", "The keys of this order have been issued."),
            Refusal::AlreadyPaid => conflict("ALREADY_PAID", "This order is paid."),
            Refusal::Refunded => conflict("REFUNDED", "The money of this order went back."),
            Refusal::NotPaid => conflict("NOT_PAID", "This order is not paid."),
            Refusal::NotAwaiting => conflict("NOT_AWAITING", "This order does not wait for the seller."),
            Refusal::KindFixed => conflict("KIND_FIXED", "The product has keys or orders; its kind cannot change."),
            Refusal::OtherKind => conflict("OTHER_KIND", "Keys move between products of one kind only."),
            Refusal::TooManyOpen => conflict("TOO_MANY_UNPAID", "Please pay or cancel your earlier orders first."),
            Refusal::StockHeld => {
                let detail = "What is left is held by orders that are not paid yet. Please try again soon.";
                conflict("STOCK_HELD", detail).retry_after(ASK_AGAIN_SECONDS)
            }
            Refusal::Limit(whose) => conflict("LIMIT_REACHED", &format!("That is more than one {whose} may have.")),
            Refusal::KeyTaken => conflict("KEY_TAKEN", "A chosen key has been taken. Please choose again."),
            Refusal::Coupon(why) => conflict("COUPON_REFUSED", &format!("The coupon cannot be used: {why}.")),
            Refusal::Duplicate(_) => conflict("DUPLICATE_KEY", "A key is in stock already."),
            Refusal::BatchMismatch => conflict("BATCH_MISMATCH", "The batch of this name has got more keys than that."),
            Refusal::Mismatch => {
                mismatch("RESERVATION_MISMATCH", "This order number was used with another sku or quantity.")
            }
            Refusal::AmountMismatch => mismatch("AMOUNT_MISMATCH", "The order costs another amount than was paid."),
            Refusal::EventMismatch => mismatch("EVENT_MISMATCH", "This event was received with another content."),
            Refusal::UnknownSku => unknown("UNKNOWN_SKU", "There is no such product."),
            Refusal::UnknownOrder => unknown("UNKNOWN_ORDER", "There is no such order."),
            Refusal::UnknownBatch => unknown("UNKNOWN_BATCH", "There is no such batch."),
            Refusal::Sqlite(error) => Self::from(StoreError::from(error)),
        }
    }
}
