//! What this service tells the waiting room in front of it, in the header `X-Tidegate-Waiting-Room` of its answers.
//!
//! A place is held while an order may be paid, and given back when its keys have been read. That is said in every answer
//! about the order, and whether the product of the sale is gone in every one that knows it: a word that is lost is made
//! good by the next. Where no gateway listens, the header means nothing.

use std::sync::atomic::{AtomicI64, Ordering::Relaxed};

use axum::http::{HeaderName, HeaderValue};
use axum::response::Response;

use super::model::{Order, OrderStatus};
use super::near::{FRESH_MS, Found};
use super::stock::Product;

const HEADER: HeaderName = HeaderName::from_static("x-tidegate-waiting-room");
/// Coming back from a wallet takes a moment, too (seconds).
const WAY_BACK: i64 = 60;

/// The sale that people wait for.
pub(super) struct Sale {
    sku: String,
    /// When an order last found nothing; what was read before does not know better.
    gone_ms: AtomicI64,
}

impl Sale {
    /// Pieces for one person: whoever waited is not to find that somebody took it all.
    pub(super) const MOST_EACH: u32 = 2;

    /// The sale of this product.
    pub(super) fn new(sku: String) -> Self {
        Self { sku, gone_ms: AtomicI64::new(i64::MIN) }
    }

    /// The product that is on sale.
    pub(super) fn sku(&self) -> &str {
        &self.sku
    }

    /// An order is under way: the buyer may go and pay, and come back for the keys.
    pub(super) fn under_way(&self, order: &Order, now_ms: i64, answer: &mut Response) {
        let seconds = (order.expires_ms - now_ms) / 1_000 + WAY_BACK;
        let open = matches!(order.status, OrderStatus::PendingPayment | OrderStatus::Paid | OrderStatus::Delivered);
        if order.sku == self.sku && open && seconds > 0 {
            say(answer, &format!("hold={seconds}; {}", named(order, now_ms)));
        }
    }

    /// An order of `qty` found nothing.
    pub(super) fn sold_out(&self, sku: &str, qty: u32, now_ms: i64, answer: &mut Response) {
        // Who wants five may be refused where one would be served.
        if sku == self.sku && qty == 1 {
            self.gone_ms.fetch_max(now_ms, Relaxed);
            say(answer, "sold_out");
        }
    }

    /// What is known of the product at `now_ms`.
    pub(super) fn listed(&self, found: &Found<Product>, now_ms: i64, answer: &mut Response) {
        let Some(product) = found.value.as_ref().filter(|_| found.fresh) else { return };
        if product.stock == 0 {
            say(answer, "sold_out");
        } else if now_ms.saturating_sub(FRESH_MS) > self.gone_ms.load(Relaxed) {
            say(answer, &format!("available={}", product.stock));
        }
    }

    /// The buyer has seen the keys. Who looks at those of an earlier visit is not sent away for it: the room compares the
    /// order's age with the visit's.
    pub(super) fn delivered(&self, order: &Order, now_ms: i64, answer: &mut Response) {
        if order.sku == self.sku && order.status == OrderStatus::Delivered {
            say(answer, &format!("complete; {}", named(order, now_ms)));
        }
    }
}

fn named(order: &Order, now_ms: i64) -> String {
    format!("order={}; age={}", order.order_no, (now_ms - order.created_ms).max(0) / 1_000)
}

fn say(answer: &mut Response, words: &str) {
    if let Ok(value) = HeaderValue::from_str(words) {
        answer.headers_mut().insert(HEADER, value);
    }
}
