//! Waiting in the room in front of a sale, as its page does: by events while they are offered, by looking otherwise.

use std::time::{Duration, Instant};

use reqwest::Response;
use serde_json::Value;
use tokio::time::sleep;

use crate::shop::Shop;

/// How soon an event stream that ended is opened again.
const COME_BACK: Duration = Duration::from_millis(500);

/// How waiting ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum End {
    /// It is this visitor's turn.
    Turn,
    /// Nothing is left.
    SoldOut,
    /// The visitor's patience, or the place.
    Lost(&'static str),
}

/// Waits for the turn of whoever holds `ticket`; `document` is what the room said last.
pub(crate) async fn wait(shop: &Shop, mut document: Value, ticket: &mut String, until: Instant) -> End {
    while Instant::now() < until {
        if let Some(end) = standing(&document) {
            return end;
        }
        let after = Duration::from_millis(document["pollAfterMs"].as_u64().unwrap_or(2_000));
        if let Some(url) = document["eventsUrl"].as_str() {
            if let Some(stream) = shop.events(url, ticket).await
                && let Some(end) = listen(stream, until).await
            {
                return end;
            }
            sleep(COME_BACK).await;
        } else {
            sleep(after).await;
        }
        let Some(url) = document["statusUrl"].as_str().map(str::to_owned) else {
            return End::Lost("the room has no status");
        };
        if let Some((told, next)) = shop.look(&url, ticket).await {
            if let Some(next) = next {
                *ticket = next;
            }
            if told.is_object() {
                document = told;
            }
        }
    }
    End::Lost("patience")
}

fn standing(document: &Value) -> Option<End> {
    match document["state"].as_str() {
        Some("READY" | "ADMITTED" | "OPEN") => Some(End::Turn),
        Some("EXPIRED" | "LEFT") => Some(End::Lost("the place")),
        _ => (document["soldOut"] == true || document["reason"] == "sold_out").then_some(End::SoldOut),
    }
}

/// Reads events until one of them ends the wait; `None` when the stream ends first.
async fn listen(mut stream: Response, until: Instant) -> Option<End> {
    let (mut text, mut name) = (String::new(), String::new());
    loop {
        let chunk = tokio::time::timeout_at(until.into(), stream.chunk()).await.ok()?.ok()??;
        text.push_str(&String::from_utf8_lossy(&chunk));
        while let Some((line, rest)) = text.split_once('\n') {
            let line = line.trim_end();
            if let Some(event) = line.strip_prefix("event:") {
                event.trim().clone_into(&mut name);
            } else if let Some(data) = line.strip_prefix("data:") {
                match name.as_str() {
                    "turn" => return Some(End::Turn),
                    "state" if data.contains("\"sold_out\"") => return Some(End::SoldOut),
                    _ => {}
                }
            }
            text = rest.to_owned();
        }
    }
}
