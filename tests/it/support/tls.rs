//! Authorities, certificates, and a front that speaks TLS for an origin that does not.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use tempfile::TempDir;
use tokio::io::copy_bidirectional;
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::rustls::server::WebPkiClientVerifier;
use tokio_rustls::rustls::{RootCertStore, ServerConfig};

/// An authority with its certificate in a file.
pub(crate) struct Authority {
    issuer: CertifiedIssuer<'static, KeyPair>,
    folder: TempDir,
}

impl Authority {
    pub(crate) fn new() -> Self {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().expect("a key");
        let issuer = CertifiedIssuer::self_signed(params, key).expect("a certificate");
        let folder = tempfile::tempdir().expect("a folder");
        std::fs::write(folder.path().join("ca.pem"), issuer.pem()).expect("write");
        Self { issuer, folder }
    }

    /// The authority's own certificate.
    pub(crate) fn file(&self) -> PathBuf {
        self.folder.path().join("ca.pem")
    }

    /// A certificate for a name, and its key, as files.
    pub(crate) fn certify(&self, name: &str) -> (PathBuf, PathBuf) {
        let key = KeyPair::generate().expect("a key");
        let params = CertificateParams::new(vec![name.to_owned()]).expect("a name");
        let certificate = params.signed_by(&key, &self.issuer).expect("a certificate");
        let files = [("pem", certificate.pem()), ("key", key.serialize_pem())];
        let [certificate, key] = files.map(|(suffix, text)| {
            let path = self.folder.path().join(format!("{name}.{suffix}"));
            std::fs::write(&path, text).expect("write");
            path
        });
        let mode = std::os::unix::fs::PermissionsExt::from_mode(0o600);
        std::fs::set_permissions(&key, mode).expect("permissions");
        (certificate, key)
    }
}

/// Speaks TLS, and passes on what is inside.
pub(crate) struct TlsFront {
    /// Where it listens.
    pub(crate) address: SocketAddr,
    accepted: Arc<AtomicUsize>,
    _runtime: tokio::runtime::Runtime,
}

impl TlsFront {
    /// A front with this certificate; `asks`: only for clients whom this authority knows; `alpn`: what it offers.
    pub(crate) fn start(to: SocketAddr, shows: &(PathBuf, PathBuf), asks: Option<&Path>, alpn: &[&str]) -> Self {
        let builder = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()));
        let builder = builder.with_safe_default_protocol_versions().expect("versions");
        let builder = match asks {
            None => builder.with_no_client_auth(),
            Some(path) => {
                let mut roots = RootCertStore::empty();
                roots.add(CertificateDer::from_pem_file(path).expect("a certificate")).expect("an authority");
                let provider = Arc::new(ring::default_provider());
                let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider);
                builder.with_client_cert_verifier(verifier.build().expect("a verifier"))
            }
        };
        let chain = vec![CertificateDer::from_pem_file(&shows.0).expect("a certificate")];
        let key = PrivateKeyDer::from_pem_file(&shows.1).expect("a key");
        let mut config = builder.with_single_cert(chain, key).expect("a certificate with its key");
        config.alpn_protocols = alpn.iter().map(|name| name.as_bytes().to_vec()).collect();
        let acceptor = TlsAcceptor::from(Arc::new(config));
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build();
        let runtime = runtime.expect("a runtime");
        let listener = runtime.block_on(TcpListener::bind("127.0.0.1:0")).expect("a port");
        let address = listener.local_addr().expect("an address");
        let accepted = Arc::new(AtomicUsize::new(0));
        let counted = accepted.clone();
        runtime.spawn(async move {
            while let Ok((socket, _)) = listener.accept().await {
                let (acceptor, counted) = (acceptor.clone(), counted.clone());
                tokio::spawn(async move {
                    let Ok(mut inside) = acceptor.accept(socket).await else { return };
                    counted.fetch_add(1, SeqCst);
                    let Ok(mut origin) = TcpStream::connect(to).await else { return };
                    let _ = copy_bidirectional(&mut inside, &mut origin).await;
                });
            }
        });
        Self { address, accepted, _runtime: runtime }
    }

    /// Handshakes that came about.
    pub(crate) fn handshakes(&self) -> usize {
        self.accepted.load(SeqCst)
    }
}
