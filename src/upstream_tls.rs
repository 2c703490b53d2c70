//! TLS towards upstreams: who is trusted, whose name the certificate must carry, and what the gateway shows of itself.
//!
//! Two clients use it: pingora's for what streams, through its peers' options, and tokio-rustls for payments and probes.
//! Both get the same roots and the same name. No early data (RFC 8446 §2.3): a payment must not be replayable.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::net::SocketAddr;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use pingora::protocols::tls::CaType;
use pingora::upstreams::peer::HttpPeer;
use pingora::utils::tls::{CertKey, WrappedX509, parse_x509};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use tokio_rustls::rustls::{ClientConfig, RootCertStore};

use crate::config::UpstreamTls;

/// The protocols' names in a handshake (RFC 7301).
const H1: &[u8] = b"http/1.1";
const H2: &[u8] = b"h2";

/// An upstream's TLS, ready for use.
pub(crate) struct Secured {
    connector: TlsConnector,
    server_name: Option<String>,
    roots: Option<Arc<CaType>>,
    identity: Option<Arc<CertKey>>,
    h2: bool,
    group: u64,
}

impl Secured {
    /// Prepares what a file says.
    ///
    /// # Errors
    /// What is wrong with a certificate, or that the system has none to trust.
    pub(crate) fn new(spec: &UpstreamTls, h2: bool) -> Result<Self, String> {
        let mut trusted = RootCertStore::empty();
        match &spec.roots {
            Some(roots) => {
                for root in roots {
                    trusted.add(root.clone().into()).map_err(|error| format!("`ca`: {error}"))?;
                }
            }
            None => {
                trusted.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
            }
        }
        if trusted.is_empty() {
            return Err("the system trusts no certificate at all; name a `ca`".to_owned());
        }
        let builder = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()));
        let builder = builder.with_safe_default_protocol_versions().map_err(|error| error.to_string())?;
        let builder = builder.with_root_certificates(trusted);
        let mut config = match &spec.identity {
            None => builder.with_no_client_auth(),
            Some(identity) => {
                let chain = identity.chain.iter().cloned().map(CertificateDer::from).collect();
                let key = PrivateKeyDer::try_from(identity.key.expose().to_vec())?;
                builder.with_client_auth_cert(chain, key).map_err(|error| format!("`key`: {error}"))?
            }
        };
        config.alpn_protocols = vec![if h2 { H2 } else { H1 }.to_vec()];
        let roots =
            spec.roots.as_ref().map(|roots| roots.iter().map(|root| parsed(root)).collect::<Result<Vec<_>, _>>());
        let identity = spec.identity.as_ref().map(|identity| {
            let parse = || CertKey::new(identity.chain.clone(), identity.key.expose().to_vec());
            catch_unwind(parse).map(Arc::new).map_err(|_| unreadable())
        });
        let mut group = DefaultHasher::new();
        spec.roots.hash(&mut group);
        spec.identity.as_ref().map(|identity| (&identity.chain, identity.key.expose())).hash(&mut group);
        Ok(Self {
            connector: TlsConnector::from(Arc::new(config)),
            server_name: spec.server_name.clone(),
            roots: roots.transpose()?.map(Into::into),
            identity: identity.transpose()?,
            h2,
            group: group.finish(),
        })
    }

    /// A peer for pingora. Connections under other settings are none of this peer's.
    pub(crate) fn peer(&self, address: SocketAddr, endpoint: &str) -> HttpPeer {
        // Without a name pingora would check no certificate at all.
        let mut peer = HttpPeer::new(address, true, self.name(endpoint).to_owned());
        peer.options.ca.clone_from(&self.roots);
        peer.client_cert_key.clone_from(&self.identity);
        peer.group_key = self.group;
        peer
    }

    /// A way to speak to an endpoint.
    ///
    /// # Errors
    /// When its host can be no name of a certificate.
    pub(crate) fn to(&self, endpoint: &str) -> Result<Tls, String> {
        let name = self.name(endpoint);
        let server = ServerName::try_from(name.to_owned());
        let server = server.map_err(|_| format!("`{name}` is no name that a certificate can carry"))?;
        let mut id = DefaultHasher::new();
        (self.group, name).hash(&mut id);
        let host = self.server_name.clone();
        Ok(Tls { connector: self.connector.clone(), name: server, h2: self.h2, host, id: id.finish() })
    }

    fn name<'n>(&'n self, endpoint: &'n str) -> &'n str {
        let host = || endpoint.rsplit_once(':').map_or(endpoint, |(host, _)| host);
        self.server_name.as_deref().unwrap_or_else(|| host().trim_start_matches('[').trim_end_matches(']'))
    }
}

/// A way to speak TLS to one endpoint.
#[derive(Clone)]
pub(crate) struct Tls {
    connector: TlsConnector,
    name: ServerName<'static>,
    h2: bool,
    /// The name in the file, if there is one.
    pub(crate) host: Option<String>,
    /// Connections with another one are not for sharing.
    pub(crate) id: u64,
}

impl Tls {
    /// The same for somebody who speaks HTTP/1.1 only.
    pub(crate) fn over_h1(&self) -> Self {
        let mut config = ClientConfig::clone(self.connector.config());
        config.alpn_protocols = vec![H1.to_vec()];
        Self { connector: TlsConnector::from(Arc::new(config)), h2: false, ..self.clone() }
    }

    /// Shakes hands. Nothing of a request is sent.
    ///
    /// # Errors
    /// Why there is nobody to speak to: not trusted, not of that name, not TLS, or another protocol than asked for.
    pub(crate) async fn connect<S: AsyncRead + AsyncWrite + Unpin>(&self, io: S) -> Result<TlsStream<S>, String> {
        let stream = self.connector.connect(self.name.clone(), io).await;
        let stream = stream.map_err(|error| format!("TLS: {error}"))?;
        let agreed = stream.get_ref().1.alpn_protocol();
        // Servers of HTTP/1 need not know about ALPN; HTTP/2 over TLS cannot be without (RFC 9113 §3.2).
        if self.h2 && agreed != Some(H2) { Err("TLS: HTTP/2 was not agreed on".to_owned()) } else { Ok(stream) }
    }
}

/// pingora's reader of certificates is another one than rustls' and panics over what it cannot read.
fn parsed(root: &[u8]) -> Result<WrappedX509, String> {
    catch_unwind(AssertUnwindSafe(|| WrappedX509::new(root.to_vec(), parse_x509))).map_err(|_| unreadable())
}

fn unreadable() -> String {
    "a certificate that cannot be read".to_owned()
}
