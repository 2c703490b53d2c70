//! Writes a reply through pingora: for HTTP/2, for replies that came after the door, and for streamed ones.

use bytes::Bytes;
use http::{HeaderName, HeaderValue, Version, header};
use pingora::Result;
use pingora::http::ResponseHeader;
use pingora::protocols::http::ServerSession;
use pingora::proxy::Session;
use tidegate_filters::engine::{Known, Reply};

use super::flow::Flow;
use super::reply::{Addressee, Body, HeaderSink, render, says_length};

/// Room for the headers of a usual reply.
const USUAL_HEADERS: usize = 10;

impl HeaderSink for ResponseHeader {
    fn put(&mut self, name: &HeaderName, value: &[u8]) {
        // Names and values come from typed headers or are made here, so both are valid.
        if let Ok(value) = HeaderValue::from_bytes(value) {
            let _ = self.append_header(name.clone(), value);
        }
    }
}

/// Writes `reply`. `reusable`: the connection may serve another request behind it.
pub(super) async fn reply(session: &mut Session, flow: &mut Flow, reply: Reply, reusable: bool) -> Result<()> {
    let mut response = Box::new(ResponseHeader::build(reply.status, Some(USUAL_HEADERS))?);
    let edits = std::mem::take(&mut flow.cx.to_client);
    let outcome = flow.known.map(Known::as_str);
    let id = flow.id();
    let to = Addressee { request_id: &id, person: flow.person, edits: &edits, outcome };
    let body = render(reply, &to, &mut *response);
    let http = session.as_downstream_mut();
    let old = http.req_header().version == Version::HTTP_10;
    if !reusable || (old && matches!(body, Body::Pieces(_))) {
        http.set_keepalive(None);
    }
    let bodiless = http.req_header().method == http::Method::HEAD;
    match body {
        Body::Made(bytes) => whole(http, response, bytes.into(), bodiless).await?,
        Body::Whole(bytes) => whole(http, response, bytes, bodiless).await?,
        Body::Pieces(mut pieces) => {
            if !http.is_http2() && http.req_header().version == Version::HTTP_11 {
                response.insert_header(header::TRANSFER_ENCODING, "chunked")?;
            }
            http.write_response_header(response).await?;
            while let Some(piece) = if bodiless { None } else { pieces.next().await } {
                http.write_response_body(piece, false).await?;
            }
            http.write_response_body(Bytes::new(), true).await?;
        }
    }
    Ok(())
}

async fn whole(http: &mut ServerSession, mut head: Box<ResponseHeader>, body: Bytes, bodiless: bool) -> Result<()> {
    if says_length(head.status) {
        head.insert_header(header::CONTENT_LENGTH, body.len().to_string())?;
    }
    http.write_response_header(head).await?;
    if !bodiless {
        http.write_response_body(body, true).await?;
    }
    Ok(())
}
