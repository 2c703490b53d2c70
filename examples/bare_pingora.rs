//! The floor under every figure of `benches/load`: a pingora proxy that forwards and does nothing else.
//!
//! What the gateway spends above this is the price of what it does. Allocator, buffers and pool are the gateway's, so
//! that the difference is its work and nothing but its work. Without `--upstream` it answers itself, which lets it
//! stand in as the upstream of a run where nothing better is installed.

use std::net::SocketAddr;

use async_trait::async_trait;
use bytes::Bytes;
use clap::Parser;
use pingora::http::ResponseHeader;
use pingora::listeners::ListenerConfig;
use pingora::modules::http::HttpModules;
use pingora::prelude::{HttpPeer, Result, Server};
use pingora::protocols::l4::stream::L4BufferSettings;
use pingora::proxy::{ProxyHttp, Session, http_proxy_service};
use pingora::server::configuration::ServerConf;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// More idle upstream connections than a run has open: reconnecting is not what is measured.
const UPSTREAM_POOL: usize = 1_024;
/// What the gateway gathers for one write.
const WRITE_BUFFER: usize = 1_460;
const SMALL: &[u8] = br#"{"order":"o-1","status":"paid"}"#;
const BIG: &[u8] = &[b'x'; 1 << 20];

/// A pass-through on one thread.
#[derive(Parser)]
struct Arguments {
    /// Where clients connect.
    #[arg(long)]
    listen: SocketAddr,
    /// Where requests go; without it they are answered here.
    #[arg(long)]
    upstream: Option<SocketAddr>,
}

struct Bare {
    upstream: Option<SocketAddr>,
}

#[async_trait]
impl ProxyHttp for Bare {
    type CTX = ();

    fn new_ctx(&self) -> Self::CTX {}

    /// pingora's default compresses on demand, and pays for that in every request.
    fn init_downstream_modules(&self, _modules: &mut HttpModules) {}

    async fn request_filter(&self, session: &mut Session, _ctx: &mut Self::CTX) -> Result<bool> {
        if self.upstream.is_some() {
            return Ok(false);
        }
        let body = if session.req_header().uri.path().ends_with("/big") { BIG } else { SMALL };
        let mut header = ResponseHeader::build(200, Some(2))?;
        header.insert_header("content-type", "application/json")?;
        header.insert_header("content-length", body.len())?;
        session.write_response_header(Box::new(header), false).await?;
        session.write_response_body(Some(Bytes::from_static(body)), true).await?;
        Ok(true)
    }

    async fn upstream_peer(&self, _session: &mut Session, _ctx: &mut Self::CTX) -> Result<Box<HttpPeer>> {
        let upstream = self.upstream.expect("invariant: without an upstream, request_filter answers");
        Ok(Box::new(HttpPeer::new(upstream, false, String::new())))
    }
}

fn main() {
    let arguments = Arguments::parse();
    let conf = ServerConf {
        threads: 1,
        upstream_keepalive_pool_size: UPSTREAM_POOL,
        grace_period_seconds: Some(0),
        graceful_shutdown_timeout_seconds: Some(0),
        ..ServerConf::default()
    };
    let mut server = Server::new_with_opt_and_conf(None, conf);
    server.bootstrap();
    let mut service = http_proxy_service(&server.configuration, Bare { upstream: arguments.upstream });
    let buffers = L4BufferSettings::new(0, WRITE_BUFFER);
    service.add_listener(ListenerConfig::tcp(arguments.listen.to_string()).l4_buffer(buffers));
    server.add_service(service);
    server.run_forever();
}
