//! A shop that writes down every callback as it came and answers as the test wants.

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::{HeaderMap, Method, StatusCode, Uri};
use parking_lot::Mutex;

/// A callback as it came.
#[derive(Debug, Clone)]
pub(super) struct Told {
    pub(super) method: Method,
    pub(super) query: String,
    pub(super) headers: HeaderMap,
    pub(super) body: String,
}

impl Told {
    pub(super) fn header(&self, name: &str) -> &str {
        self.headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or("")
    }
}

pub(super) struct Shop {
    pub(super) url: String,
    book: Arc<Book>,
}

struct Book {
    told: Mutex<Vec<Told>>,
    /// Status and body for each callback in turn; the last one for all that follow.
    answers: Vec<(u16, &'static str)>,
}

impl Shop {
    /// Listens until the test is over.
    pub(super) async fn start(answers: &[(u16, &'static str)]) -> Self {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let url = format!("http://{}/notify", listener.local_addr().expect("an address"));
        let book = Arc::new(Book { told: Mutex::default(), answers: answers.to_vec() });
        let router = Router::new().fallback(receive).with_state(Arc::clone(&book));
        tokio::spawn(async move { axum::serve(listener, router).await });
        Self { url, book }
    }

    /// Waits until so many callbacks have come.
    pub(super) async fn wait_for(&self, count: usize) -> Vec<Told> {
        for _ in 0..500 {
            if self.book.told.lock().len() >= count {
                break;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        let told = self.book.told.lock().clone();
        assert!(told.len() >= count, "{} callbacks instead of {count}", told.len());
        told
    }
}

async fn receive(
    State(book): State<Arc<Book>>,
    method: Method,
    uri: Uri,
    headers: HeaderMap,
    body: Bytes,
) -> (StatusCode, &'static str) {
    let body = String::from_utf8(body.to_vec()).expect("text");
    let mut told = book.told.lock();
    told.push(Told { method, query: uri.query().unwrap_or("").to_owned(), headers, body });
    let (status, answer) = book.answers[(told.len() - 1).min(book.answers.len() - 1)];
    (StatusCode::from_u16(status).expect("a status"), answer)
}
