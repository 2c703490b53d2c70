//! Orders and payments as a buyer's program sees them.

use serde_json::{Value, json};

use super::model::{Event, Order, OrderStatus, Payment, PaymentStatus};

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

/// A moment in UTC as RFC 3339 has it, for example `2026-11-11T00:00:00.000Z`.
pub(super) fn rfc3339(unix_ms: i64) -> String {
    let (days, ms) = (unix_ms.div_euclid(86_400_000), unix_ms.rem_euclid(86_400_000));
    let (year, month, day) = civil(days);
    let (hour, minute, second) = (ms / 3_600_000, ms / 60_000 % 60, ms / 1_000 % 60);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{:03}Z", ms % 1_000)
}

/// Year, month and day from days since 1970-01-01 (Howard Hinnant, `civil_from_days`): years begin in March here, so
/// that the leap day comes last.
fn civil(days: i64) -> (i64, i64, i64) {
    let days = days + 719_468;
    let era = days.div_euclid(146_097);
    let day_of_era = days.rem_euclid(146_097);
    let year_of_era = (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * shifted + 2) / 5 + 1;
    let month = if shifted < 10 { shifted + 3 } else { shifted - 9 };
    (year_of_era + era * 400 + i64::from(month <= 2), month, day)
}
