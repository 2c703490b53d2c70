//! What an order costs in statements of SQL. Whoever adds one sees it here.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};

use rusqlite::trace::{TraceEvent, TraceEventCodes};

use super::*;

#[test]
fn an_order_from_the_wish_to_its_keys_is_five_operations_of_so_many_statements() {
    let mut connection = Connection::open_in_memory().expect("a database in memory");
    for migration in [schema::SCHEMA, crate::outbox::SCHEMA, crate::outbox::SEEN_BY_TIME] {
        connection.execute_batch(migration).expect("the schema is sound");
    }
    let count = Arc::new(AtomicUsize::new(0));
    let counted = count.clone();
    let trace = move |event: TraceEvent<'_>| {
        // What triggers do is a comment.
        if let TraceEvent::Stmt(_, sql) = event
            && !sql.starts_with("--")
        {
            counted.fetch_add(1, SeqCst);
        }
    };
    connection.trace_v2(TraceEventCodes::SQLITE_TRACE_STMT, Some(trace)).expect("traced");
    let taken = || count.swap(0, SeqCst);
    let new = NewOrder {
        order_no: "A".to_owned(),
        user: "u".to_owned(),
        idem_key: "k".to_owned(),
        fingerprint: [1; 32],
        sku: "card".to_owned(),
        qty: 1,
        amount: 4_900,
        currency: "CNY".to_owned(),
        password: Some(vec![1]),
        expires_ms: 1_000,
        most_each: None,
    };
    rows::create(&connection, &new, 0, 5).expect("a new order");
    let created = taken();
    rows::reserved(&connection, "A", 2).expect("reserved");
    let reserved = taken();
    let payment_no = pay(&connection, Method::Alipay, 3).expect("a payment");
    let begun = taken();
    tell(&connection, &payment_no, Told::Success, 4);
    let paid = taken() - 1;
    settle::delivered(&connection, "A", 5).expect("delivered");
    assert_eq!(
        [created, reserved, begun, paid, taken()],
        [5, 7, 6, 12, 7],
        "37 together; each operation is one SAVEPOINT more"
    );
    assert_sound(&connection);
}
