//! Orders and payments as a buyer's program sees them.

use serde_json::{Value, json};

use super::model::{Event, Order, OrderStatus, Payment, PaymentStatus};
use crate::support::rfc3339;

/// An order as it was when its keys had been reserved. A repeated request gets the same, whatever has come since.
pub(super) fn placed(order: &Order) -> Value {
    let mut answer = summary(order);
    answer["status"] = json!(OrderStatus::PendingPayment);
    answer
}

/// An order in a list.
pub(super) fn summary(order: &Order) -> Value {
    json!({
        "order_no": order.order_no,
        "sku": order.sku,
        "qty": order.qty,
        "amount": order.amount,
        "currency": order.currency,
        "status": order.status,
        "created_at": rfc3339(order.created_ms),
        "expires_at": rfc3339(order.expires_ms),
    })
}

/// Everything about an order but its keys.
pub(super) fn full(order: &Order, payments: &[Payment], events: &[Event]) -> Value {
    let mut answer = summary(order);
    answer["fail_code"] = json!(order.fail_code);
    answer["payments"] = payments.iter().map(payment).collect();
    // What the details say is for the operator: other numbers, words of channels.
    answer["events"] = events.iter().map(|event| json!({ "at": rfc3339(event.at_ms), "kind": event.kind })).collect();
    answer
}

/// A payment. While the payer is waited for, `pay_url` is where he agrees: the simulated wallet.
pub(super) fn payment(payment: &Payment) -> Value {
    let waits = payment.status == PaymentStatus::Pending && !payment.close_wanted;
    let pay_url = format!("/shop/wallet?order={}&payment={}", payment.order_no, payment.payment_no);
    json!({
        "payment_no": payment.payment_no,
        "order_no": payment.order_no,
        "method": payment.method,
        // Absent while nobody knows where the payment is.
        "channel": payment.channel,
        "amount": payment.amount,
        "currency": payment.currency,
        "status": payment.status,
        "refund": payment.refund,
        "pay_url": waits.then_some(pay_url),
    })
}
