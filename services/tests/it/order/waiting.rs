//! What a waiting room in front is told: a place is held while an order can be paid, and what is gone is said to be gone.

use std::time::{Duration, Instant};

use reqwest::{Method, Response};
use serde_json::{Value, json};

use super::{Caller, Street};

fn said(answer: &Response) -> Option<String> {
    answer.headers().get("x-tidegate-waiting-room").map(|words| words.to_str().expect("text").to_owned())
}

async fn ask(caller: &Caller, method: Method, path: &str, body: Value) -> Response {
    let request = caller.client.request(method, format!("{}{path}", caller.base)).bearer_auth(&caller.token);
    let key = format!("{}", rand::random::<u64>());
    request.header("idempotency-key", key).json(&body).send().await.expect("an answer")
}

async fn until_said(caller: &Caller, words: &str) {
    let begun = Instant::now();
    loop {
        let answer = ask(caller, Method::GET, "/api/products", Value::Null).await;
        if said(&answer).as_deref() == Some(words) {
            return;
        }
        assert!(begun.elapsed() < Duration::from_secs(10), "{words} is never said");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_waiting_room_is_told_to_hold_to_close_and_to_open_again() {
    let street = Street::open(1, |settings| settings.sale = "card".to_owned()).await;
    let caller = &street.caller;
    until_said(caller, "available=1").await;
    let wanted = json!({ "sku": "card", "qty": 1, "query_password": "secret-99" });
    let placed = ask(caller, Method::POST, "/api/sale/orders", wanted.clone()).await;
    let words = said(&placed).expect("words");
    let order: Value = placed.json().await.expect("JSON");
    let (hold, rest) = words.strip_prefix("hold=").and_then(|rest| rest.split_once("; order=")).expect("a hold");
    let (number, age) = rest.split_once("; age=").expect("an age");
    assert!(age.parse::<u64>().expect("seconds") < 10, "{words}");
    assert!((100..=120).contains(&hold.parse::<u64>().expect("seconds")), "{words}");
    assert_eq!(order["order_no"], number);
    let shown = ask(caller, Method::GET, &format!("/api/orders/{number}"), Value::Null).await;
    assert!(said(&shown).is_some_and(|words| words.contains(number)), "a word that was lost is said again");

    let late = ask(caller, Method::POST, "/api/sale/orders", wanted.clone()).await;
    assert_eq!((late.status().as_u16(), said(&late).as_deref()), (409, Some("sold_out")));
    let listed = ask(caller, Method::GET, "/api/products", Value::Null).await;
    assert_ne!(said(&listed).as_deref(), Some("available=1"), "an old catalogue knows no better");
    until_said(caller, "sold_out").await;
    ask(caller, Method::POST, &format!("/api/orders/{number}/cancel"), Value::Null).await;
    until_said(caller, "available=1").await;
    let asked = ask(caller, Method::GET, "/api/sale", Value::Null).await;
    assert_eq!(said(&asked).as_deref(), Some("available=1"), "who only wants to know asks here");
    let several = json!({ "sku": "card", "qty": 2, "query_password": "secret-99" });
    let several = ask(caller, Method::POST, "/api/sale/orders", several).await;
    assert_eq!((several.status().as_u16(), said(&several)), (409, None), "one is left for somebody else");
    street.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_place_is_given_back_when_the_keys_have_been_read() {
    let street = Street::open(5, |settings| settings.sale = "card".to_owned()).await;
    let caller = &street.caller;
    let wanted = json!({ "sku": "card", "qty": 1, "query_password": "secret-99" });
    let elsewhere = ask(caller, Method::POST, "/api/orders", wanted.clone()).await;
    assert_eq!(elsewhere.status().as_u16(), 409, "nobody goes around the room");
    let order: Value = ask(caller, Method::POST, "/api/sale/orders", wanted).await.json().await.expect("JSON");
    let number = order["order_no"].as_str().expect("a number").to_owned();
    let payment = caller.paying(&number).await;
    street.bank.charge(&payment);
    assert_eq!(street.notify("n-1", &payment).await.0, 200);
    let path = format!("/api/orders/{number}/keys");
    let begun = Instant::now();
    loop {
        let answer = ask(caller, Method::POST, &path, json!({ "query_password": "secret-99" })).await;
        if said(&answer).is_some_and(|words| words.starts_with(&format!("complete; order={number}; age="))) {
            assert_eq!(answer.status().as_u16(), 200);
            break;
        }
        assert!(begun.elapsed() < Duration::from_secs(10), "never");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let wrong = ask(caller, Method::POST, &path, json!({ "query_password": "secret-98" })).await;
    assert_eq!(said(&wrong), None);
    street.close().await;
}
