//! The shop page: files that are compiled in and need nothing from anywhere else.
//!
//! Scripts come from this origin only and never from the page itself, so a key shown on it cannot be carried off by
//! text that somebody managed to put there.

use std::sync::Arc;

use axum::Router;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{MethodRouter, get};
use bytes::Bytes;
use sha2::{Digest, Sha256};

use super::desk::Desk;
use crate::support::hex;

const POLICY: &str =
    "default-src 'self'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'; object-src 'none'";

const HTML: &str = "text/html; charset=utf-8";
const SCRIPT: &str = "text/javascript; charset=utf-8";

/// What is around every page: `{page}` is the name of its script, `{main}` what it shows.
const FRAME: &str = include_str!("page/frame.html");

/// Path, script and contents of each page.
const PAGES: &[(&str, &str, &str)] = &[
    ("/", "home", include_str!("page/home.html")),
    ("/sale", "home", include_str!("page/home.html")),
    ("/shop/order", "order", include_str!("page/order.html")),
    ("/shop/wallet", "wallet", include_str!("page/wallet.html")),
    ("/shop/pending", "pending", include_str!("page/pending.html")),
];

/// Path, media type and text of each file.
const FILES: &[(&str, &str, &str)] = &[
    ("/shop/shop.css", "text/css; charset=utf-8", include_str!("page/shop.css")),
    ("/shop/icon.svg", "image/svg+xml", include_str!("page/icon.svg")),
    ("/shop/words.js", SCRIPT, include_str!("page/words.js")),
    ("/shop/api.js", SCRIPT, include_str!("page/api.js")),
    ("/shop/frame.js", SCRIPT, include_str!("page/frame.js")),
    ("/shop/home.js", SCRIPT, include_str!("page/home.js")),
    ("/shop/order.js", SCRIPT, include_str!("page/order.js")),
    ("/shop/wallet.js", SCRIPT, include_str!("page/wallet.js")),
    ("/shop/pending.js", SCRIPT, include_str!("page/pending.js")),
];

/// A route for each page and each file.
pub(super) fn routes() -> Router<Arc<Desk>> {
    let pages = PAGES.iter().fold(Router::new(), |router, (path, page, main)| {
        let text = FRAME.replace("{page}", page).replace("{main}", main);
        router.route(path, file(HTML, text))
    });
    FILES.iter().fold(pages, |router, (path, kind, text)| router.route(path, file(kind, (*text).to_owned())))
}

fn file(kind: &'static str, text: String) -> MethodRouter<Arc<Desk>> {
    let text = Bytes::from(text);
    let digest = Sha256::digest(&text);
    let tag: Arc<str> = format!("\"{}\"", hex(&digest[..16])).into();
    get(async move |headers: HeaderMap| serve(&headers, kind, text.clone(), &tag))
}

/// Asked again each time and mostly answered with 304, so a new version is seen whole and at once.
fn serve(headers: &HeaderMap, kind: &'static str, text: Bytes, tag: &str) -> Response {
    let same = headers.get(header::IF_NONE_MATCH).and_then(|value| value.to_str().ok());
    let known = same.is_some_and(|tags| tags.split(',').any(|one| one.trim().trim_start_matches("W/") == tag));
    let common = [
        (header::CONTENT_TYPE, kind),
        (header::ETAG, tag),
        (header::CACHE_CONTROL, "no-cache"),
        (header::CONTENT_SECURITY_POLICY, POLICY),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::REFERRER_POLICY, "no-referrer"),
    ];
    if known { (StatusCode::NOT_MODIFIED, common).into_response() } else { (common, text).into_response() }
}
