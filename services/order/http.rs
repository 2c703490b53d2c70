//! The interface for buyers. Orders belong to the user named by the token; another user's do not exist for him.

use std::sync::Arc;

use axum::Router;
use axum::body::Bytes;
use axum::extract::{DefaultBodyLimit, FromRequestParts, Path, State};
use axum::http::request::Parts;
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use super::channel::Reply;
use super::desk::{Desk, Wanted};
use super::model::{Method, Order, OrderStatus, Payment, PaymentStatus, Refusal};
use super::{desk, notify, operations, page, payments, rows, stream, token, view};
use crate::support::{PROBLEM_JSON, Problem, idempotency_key, unix_ms};

/// Most keys in one order; the card-key service has the same.
const MAX_QTY: u32 = 10;

/// Longest SKU in bytes.
const MAX_SKU: usize = 64;

/// Bytes of a query password.
const PASSWORD: std::ops::RangeInclusive<usize> = 6..=128;

/// Orders in a list.
const LISTED: u32 = 20;

/// Largest body of a request; a notification is the largest and has a few hundred bytes.
const MAX_BODY: usize = 256 * 1024;

const NO_STORE: (HeaderName, HeaderValue) = (header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
const CATALOGUE: [(HeaderName, HeaderValue); 2] = [
    (header::CONTENT_TYPE, HeaderValue::from_static("application/json")),
    (header::CACHE_CONTROL, HeaderValue::from_static("public, max-age=1")),
];
const REPLAYED: (HeaderName, HeaderValue) =
    (HeaderName::from_static("idempotent-replayed"), HeaderValue::from_static("true"));

type Shared = State<Arc<Desk>>;
type Answer = Result<Response, Problem>;

/// All routes. The gateway leads to `/`, `/shop`, `/api` and `/notify`; the rest is for the machine itself.
pub(super) fn router(desk: Arc<Desk>) -> Router {
    Router::new()
        .merge(operations::routes())
        .route("/api/products", get(products))
        .route("/api/products/{sku}", get(product))
        .route("/api/session", post(session))
        .route("/api/orders", post(place).get(list))
        .route("/api/sale", get(on_sale))
        .route("/api/sale/orders", post(place_in_sale))
        .route("/api/orders/{no}", get(show))
        .route("/api/orders/{no}/cancel", post(cancel))
        .route("/api/orders/{no}/keys", post(keys))
        .route("/api/orders/{no}/payments", post(pay))
        .route("/api/orders/{no}/payments/{payment_no}/confirm", post(confirm))
        .route("/api/orders/{no}/payments/{payment_no}/close", post(close))
        .route("/api/events", get(stream::events))
        .route("/api/events/ticket", post(stream::ticket))
        .route("/api/ws", get(stream::websocket))
        .route("/notify/{channel}", get(notify::receive).post(notify::receive))
        .merge(page::routes())
        .fallback(async || Problem::new(StatusCode::NOT_FOUND, "NOT_FOUND", "There is nothing at this path."))
        .method_not_allowed_fallback(async || {
            let detail = "This path does not know that method.";
            Problem::new(StatusCode::METHOD_NOT_ALLOWED, "METHOD_NOT_ALLOWED", detail)
        })
        .layer(DefaultBodyLimit::max(MAX_BODY))
        .with_state(desk)
}

/// The user named by a good token.
pub(super) struct User(pub(super) String);

impl FromRequestParts<Arc<Desk>> for User {
    type Rejection = Response;

    async fn from_request_parts(parts: &mut Parts, desk: &Arc<Desk>) -> Result<Self, Response> {
        let value = parts.headers.get(header::AUTHORIZATION).and_then(|value| value.to_str().ok());
        let token =
            value.and_then(|value| value.split_once(' ')).filter(|(kind, _)| kind.eq_ignore_ascii_case("bearer"));
        let user =
            token.and_then(|(_, token)| token::verify(desk.settings.jwt_secret.bytes(), token.trim(), seconds()));
        user.map(Self).ok_or_else(|| {
            let detail = "Sign in: POST /api/session gives a token for the Authorization header.";
            let problem = Problem::new(StatusCode::UNAUTHORIZED, "UNAUTHENTICATED", detail);
            ([(header::WWW_AUTHENTICATE, "Bearer")], problem).into_response()
        })
    }
}

fn seconds() -> i64 {
    unix_ms() / 1_000
}

async fn products(State(desk): Shared) -> Answer {
    let mut answer = (CATALOGUE, desk.stock.catalogue(unix_ms()).await?).into_response();
    say_what_is_left(&desk, &mut answer).await;
    Ok(answer)
}

/// Tells the waiting room whether the product of the sale is there.
async fn say_what_is_left(desk: &Desk, answer: &mut Response) {
    let now_ms = unix_ms();
    if let Ok(found) = desk.stock.product(desk.sale.sku(), now_ms).await {
        desk.sale.listed(&found, now_ms, answer);
    }
}

async fn product(State(desk): Shared, Path(sku): Path<String>) -> Answer {
    check_sku(&sku)?;
    let found = desk.stock.product(&sku, unix_ms()).await?;
    let product = found.value.ok_or_else(desk::unknown_sku)?;
    Ok((CATALOGUE, product.body.clone()).into_response())
}

/// Makes somebody up: the demo has no accounts.
async fn session(State(desk): Shared) -> Response {
    let user = token::new_user();
    let token = token::issue(desk.settings.jwt_secret.bytes(), &user, seconds());
    let answer = json!({ "token": token, "user": user, "expires_in": token::LIFETIME_SECONDS });
    ([NO_STORE], axum::Json(answer)).into_response()
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct PlaceRequest {
    sku: String,
    qty: Option<u32>,
    /// Without one, nobody could ever read the keys that were paid for.
    query_password: String,
}

/// The gateway's name for a request that it has answered with 202 and sends now. Clients cannot send it.
const DEFERRED: &str = "tidegate-deferred";

/// What is sold behind the waiting room.
async fn on_sale(State(desk): Shared) -> Response {
    let mut answer = axum::Json(json!({ "sku": desk.sale.sku() })).into_response();
    say_what_is_left(&desk, &mut answer).await;
    answer
}

async fn place(State(desk): Shared, User(user): User, headers: HeaderMap, body: Bytes) -> Answer {
    place_at(&desk, user, &headers, &body, false).await
}

/// The way in for those who waited. The product of the sale is sold nowhere else, and nothing else is sold here.
async fn place_in_sale(State(desk): Shared, User(user): User, headers: HeaderMap, body: Bytes) -> Answer {
    place_at(&desk, user, &headers, &body, true).await
}

async fn place_at(desk: &Arc<Desk>, user: String, headers: &HeaderMap, body: &Bytes, in_sale: bool) -> Answer {
    let idem_key = idempotency_key(headers)?;
    let request: PlaceRequest = parse(body)?;
    let qty = request.qty.unwrap_or(1);
    if !(1..=MAX_QTY).contains(&qty) {
        return Err(Problem::invalid(format!("qty must be 1 to {MAX_QTY}")));
    }
    check_sku(&request.sku)?;
    check_password(&request.query_password)?;
    if (request.sku == desk.sale.sku()) != in_sale {
        let detail = "What is in the sale is ordered at /api/sale/orders, everything else at /api/orders.";
        return Err(Problem::new(StatusCode::CONFLICT, "SOLD_ELSEWHERE", detail));
    }
    let wanted = Wanted { user, idem_key, sku: request.sku, qty, password: request.query_password };
    let sku = wanted.sku.clone();
    let (now, order) = match desk.place(wanted, unix_ms()).await {
        Ok(placed) => placed,
        Err(problem) => return Ok(none_left(desk, problem, &sku, qty)),
    };
    if headers.contains_key(DEFERRED) {
        desk.tell_placed(&order, unix_ms()).await?;
    }
    let mut answer = placed(&order).unwrap_or_else(|problem| none_left(desk, problem, &sku, qty));
    if in_sale {
        desk.sale.under_way(&order, unix_ms(), &mut answer);
    }
    if !now {
        let (name, value) = REPLAYED;
        answer.headers_mut().insert(name, value);
    }
    Ok(answer)
}

/// A refusal; when nothing was left, the waiting room is told.
fn none_left(desk: &Desk, problem: Problem, sku: &str, qty: u32) -> Response {
    let sold_out = problem.code == "SOLD_OUT";
    let mut answer = problem.into_response();
    if sold_out {
        desk.sale.sold_out(sku, qty, unix_ms(), &mut answer);
    }
    answer
}

/// The first answer to an order, again and again the same.
fn placed(order: &Order) -> Answer {
    if order.status != OrderStatus::Failed {
        let location = format!("/api/orders/{}", order.order_no);
        let headers = [(header::LOCATION, location)];
        return Ok((StatusCode::CREATED, headers, axum::Json(view::placed(order))).into_response());
    }
    Err(match order.fail_code.as_deref() {
        Some("SOLD_OUT") => desk::sold_out(),
        Some("UNKNOWN_SKU") => desk::unknown_sku(),
        _ => {
            let detail = "The keys could not be reserved in time. Place a new order.";
            Problem::new(StatusCode::CONFLICT, "ORDER_FAILED", detail)
        }
    })
}

async fn list(State(desk): Shared, User(user): User) -> Answer {
    let file = desk.files.of_user(&user);
    let orders = file.read(move |connection| Ok(rows::of_user(connection, &user, LISTED)?)).await?;
    let orders: Vec<Value> = orders.iter().map(view::summary).collect();
    Ok(([NO_STORE], axum::Json(json!({ "orders": orders }))).into_response())
}

async fn show(State(desk): Shared, User(user): User, Path(order_no): Path<String>) -> Answer {
    let file = desk.file(&order_no)?;
    let full = file.read(move |connection| {
        let order = rows::get_owned(connection, &order_no, &user)?;
        let payments = payments::of_order(connection, &order_no)?;
        let view = view::full(&order, &payments, &rows::events(connection, &order_no)?);
        Ok((order, view))
    });
    let (order, view) = full.await?;
    let mut answer = ([NO_STORE], axum::Json(view)).into_response();
    desk.sale.under_way(&order, unix_ms(), &mut answer);
    Ok(answer)
}

/// 200 when the order is given up, 202 while its payment has to be closed first.
async fn cancel(State(desk): Shared, User(user): User, Path(order_no): Path<String>) -> Answer {
    let order = desk.cancel(order_no, user, unix_ms()).await?;
    let status = match order.status {
        OrderStatus::Cancelled | OrderStatus::Expired => StatusCode::OK,
        OrderStatus::Closing => StatusCode::ACCEPTED,
        // Paid in the last moment: the channel said so when it was asked to close.
        other => return Err(Refusal::WrongState(other).into()),
    };
    Ok((status, [NO_STORE], axum::Json(view::summary(&order))).into_response())
}

#[derive(Deserialize)]
struct KeysRequest {
    query_password: String,
}

/// The keys, as the card-key service shows them. They are kept by nobody on the way.
async fn keys(State(desk): Shared, User(user): User, Path(order_no): Path<String>, body: Bytes) -> Answer {
    let request: KeysRequest = parse(&body)?;
    check_password(&request.query_password)?;
    let (order, _) = desk.order(&order_no, &user).await?;
    // Keys may have been issued by a try that was given up before; the money is on its way back, or never came.
    if matches!(
        order.status,
        OrderStatus::Refunding
            | OrderStatus::Refunded
            | OrderStatus::Cancelled
            | OrderStatus::Expired
            | OrderStatus::Failed
    ) {
        return Err(Refusal::WrongState(order.status).into());
    }
    let (status, retry_after, body) = desk.keys(&order.order_no, &request.query_password).await?;
    let kind = if status.is_success() { "application/json" } else { PROBLEM_JSON };
    let mut answer = (status, [NO_STORE], body).into_response();
    answer.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(kind));
    if status.is_success() {
        desk.sale.delivered(&order, unix_ms(), &mut answer);
    }
    if let Some(seconds) = retry_after {
        answer.headers_mut().insert(header::RETRY_AFTER, seconds.into());
    }
    Ok(answer)
}

#[derive(Deserialize)]
struct PayRequest {
    /// How to pay; absent: as the gateway chooses.
    channel: Option<String>,
}

async fn pay(State(desk): Shared, User(user): User, Path(order_no): Path<String>, body: Bytes) -> Answer {
    let request: PayRequest = parse(&body)?;
    let unknown = || Problem::invalid("channel must be any, alipay, wechat or union");
    let method = request.channel.as_deref().map_or(Some(Method::Any), Method::parse).ok_or_else(unknown)?;
    let (now, payment) = desk.pay(order_no, user, method, unix_ms()).await?;
    let answer = stands(&payment, if now { StatusCode::CREATED } else { StatusCode::OK });
    if payment.status == PaymentStatus::Failed {
        let detail = "The channel could not be reached. Nothing was paid; pay again or in another way.";
        return Err(Problem::new(StatusCode::SERVICE_UNAVAILABLE, "CHANNEL_UNAVAILABLE", detail).retry_after(2));
    }
    Ok(answer)
}

/// Where a payment stands: 202 while nobody knows whether it has been charged.
fn stands(payment: &Payment, known: StatusCode) -> Response {
    let body = axum::Json(view::payment(payment));
    if !matches!(payment.status, PaymentStatus::Created | PaymentStatus::Unknown) {
        return (known, [NO_STORE], body).into_response();
    }
    let headers = [
        (header::LOCATION, format!("/api/orders/{}", payment.order_no)),
        (header::RETRY_AFTER, "2".to_owned()),
        (header::CACHE_CONTROL, "no-store".to_owned()),
    ];
    (StatusCode::ACCEPTED, headers, body).into_response()
}

/// The payer agrees in the simulated wallet. Whether he has paid is what the notification or a query says, so the
/// answer is always "look again".
async fn confirm(State(desk): Shared, User(user): User, Path((no, payment_no)): Path<(String, String)>) -> Answer {
    let payment = desk.owned_payment(&no, &payment_no, &user).await?;
    let waits = payment.status == PaymentStatus::Pending && !payment.close_wanted;
    let Some(channel) = payment.channel.filter(|_| waits) else {
        let detail = format!("The payment is {}.", payment.status.as_str());
        return Err(Problem::new(StatusCode::CONFLICT, "WRONG_STATE", detail));
    };
    let reply = desk.channels.confirm(&payment_no, channel).await;
    if let Reply::NotSent(why) = reply {
        tracing::warn!(payment_no, why, "the wallet could not be reached");
        let detail = "The wallet could not be reached.";
        return Err(Problem::new(StatusCode::SERVICE_UNAVAILABLE, "CHANNEL_UNAVAILABLE", detail).retry_after(2));
    }
    let due_ms = unix_ms() + super::backoff_ms(desk.settings.retry_unit, 0);
    let number = payment_no.clone();
    let file = desk.file_of_payment(&payment_no)?;
    file.write(move |connection| Ok(payments::look_again(connection, &number, 0, due_ms)?)).await?;
    let payment = desk.payment(&payment_no).await?;
    Ok((StatusCode::ACCEPTED, [NO_STORE], axum::Json(view::payment(&payment))).into_response())
}

/// Closes a payment, so that another way to pay can be taken: 200 when its end is known, 202 while it is not.
async fn close(State(desk): Shared, User(user): User, Path((no, payment_no)): Path<(String, String)>) -> Answer {
    let payment = desk.owned_payment(&no, &payment_no, &user).await?;
    let payment = desk.close_payment(payment, unix_ms()).await?;
    let status = if payment.status.is_live() { StatusCode::ACCEPTED } else { StatusCode::OK };
    Ok((status, [NO_STORE], axum::Json(view::payment(&payment))).into_response())
}

/// What cannot be a product is not looked for.
pub(super) fn check_sku(sku: &str) -> Result<(), Problem> {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_';
    if (1..=MAX_SKU).contains(&sku.len()) && sku.bytes().all(plain) {
        return Ok(());
    }
    Err(Problem::invalid(format!("sku must be 1 to {MAX_SKU} of A-Z, a-z, 0-9, - and _")))
}

fn check_password(password: &str) -> Result<(), Problem> {
    if PASSWORD.contains(&password.len()) {
        return Ok(());
    }
    Err(Problem::invalid(format!("query_password must be {} to {} bytes", PASSWORD.start(), PASSWORD.end())))
}

/// The body as JSON. What the parser says names members and positions, not values of ours.
pub(super) fn parse<T: DeserializeOwned>(body: &[u8]) -> Result<T, Problem> {
    serde_json::from_slice(body).map_err(|error| Problem::invalid(error.to_string()))
}
