//! What goes wrong in HTTP/2 only, seen by a client that reads the frames' meaning.

use axum::body::Bytes;
use axum::http::Request;
use h2::client::SendRequest;
use h2::{Error, Reason};
use serde_json::{Value, json};
use tokio::net::TcpStream;

use super::Service;
use super::faults::{direct, put};

struct Client {
    send: SendRequest<Bytes>,
    connection: tokio::task::JoinHandle<Result<(), Error>>,
}

impl Client {
    async fn connect(service: &Service) -> Self {
        let stream = TcpStream::connect(service.running.address).await.expect("a connection");
        let (send, connection) = h2::client::handshake(stream).await.expect("HTTP/2");
        Self { send, connection: tokio::spawn(connection) }
    }

    async fn charge(&mut self, payment_no: &str) -> Result<u16, Error> {
        let request = Request::post("http://sim/pay/v1/payments").body(()).expect("a request");
        let mut ready = self.send.clone().ready().await?;
        let (answer, mut body) = ready.send_request(request, false)?;
        body.send_data(Bytes::from(direct(payment_no).to_string()), true)?;
        Ok(answer.await?.status().as_u16())
    }
}

async fn service(fault: Value) -> Service {
    let service = Service::start().await;
    put(&service.caller, json!([fault])).await;
    service
}

#[tokio::test]
async fn a_refused_stream_was_not_looked_at_and_the_connection_lives() {
    let service = service(json!({ "kind": "refused_stream", "times": 1 })).await;
    // Not in HTTP/1, where there are no streams.
    assert_eq!(service.caller.create(direct("plain")).await.0, 201);
    let mut client = Client::connect(&service).await;
    let error = client.charge("p").await.expect_err("refused");
    assert_eq!((error.reason(), error.is_remote()), (Some(Reason::REFUSED_STREAM), true));
    assert_eq!(service.caller.truth("p").await["code"], "PAYMENT_NOT_FOUND");
    assert_eq!(client.charge("p").await.expect("an answer"), 201);
    assert_eq!(service.caller.truth("p").await["charges"], 1);
    drop(client);
    service.stop().await;
}

#[tokio::test]
async fn goaway_excludes_the_call_that_was_not_looked_at() {
    for (fault, reason) in [
        (json!({ "kind": "goaway", "nth": 2 }), Reason::NO_ERROR),
        (json!({ "kind": "goaway", "nth": 2, "code": "2" }), Reason::INTERNAL_ERROR),
    ] {
        let service = service(fault).await;
        let mut client = Client::connect(&service).await;
        assert_eq!(client.charge("first").await.expect("an answer"), 201);
        let error = client.charge("p").await.expect_err("gone");
        assert!(error.is_go_away() && error.is_remote(), "{error:?}");
        assert_eq!(error.reason(), Some(reason));
        assert_eq!(service.caller.truth("p").await["code"], "PAYMENT_NOT_FOUND");
        drop(client);
        service.stop().await;
    }
}

#[tokio::test]
async fn a_protocol_error_hides_a_charge() {
    let service = service(json!({ "kind": "h2_protocol_error" })).await;
    let mut client = Client::connect(&service).await;
    let error = client.charge("p").await.expect_err("broken");
    assert_eq!((error.reason(), error.is_library()), (Some(Reason::PROTOCOL_ERROR), true), "{error:?}");
    assert_eq!(service.caller.truth("p").await["charged"], 700);
    drop(client.send);
    assert!(client.connection.await.expect("no panic").is_err());
    service.stop().await;
}
