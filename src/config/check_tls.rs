//! `tls` of an upstream: files that are read, so that a typo shows when the file is checked and not at the first payment.

use std::path::PathBuf;

use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};

use super::check::Checker;
use super::file::UpstreamFile;
use super::file_channel::{UpstreamProtocolFile, UpstreamTlsFile};
use super::placed::At;
use super::secret::Secret;
use super::types::{TlsIdentity, UpstreamTls};
use crate::upstream_tls::Secured;

impl Checker<'_, '_> {
    pub(super) fn tls(&mut self, upstream: &At<UpstreamFile>) -> Option<UpstreamTls> {
        let file = &upstream.value;
        let protocol = &file.protocol;
        match (protocol.value, &file.tls) {
            (UpstreamProtocolFile::H2, None) => {
                let help = Some("add `tls: {}`, or write `h2c`".to_owned());
                self.wrong_with_help(protocol.or(upstream.at), "`h2` is HTTP/2 over TLS", help);
            }
            (UpstreamProtocolFile::H2c, Some(_)) => {
                let help = Some("write `h2`".to_owned());
                self.wrong_with_help(protocol.or(upstream.at), "`h2c` is HTTP/2 without TLS", help);
            }
            _ => (),
        }
        let tls = file.tls.as_ref()?;
        let UpstreamTlsFile { server_name, ca, certificate, key } = &tls.value;
        if let Some(name) = server_name
            && ServerName::try_from(name.value.as_str()).is_err()
        {
            self.wrong(name.at, "no name that a certificate can carry");
            return None;
        }
        let roots = match ca {
            Some(path) => Some(self.certificates(path)?),
            None => None,
        };
        let identity = match (certificate, key) {
            (None, None) => None,
            (Some(certificate), Some(key)) => {
                let (chain, key) = (self.certificates(certificate), self.private_key(key));
                Some(TlsIdentity { chain: chain?, key: key? })
            }
            (Some(one), None) | (None, Some(one)) => {
                self.wrong(one.at, "`certificate` and `key` stand together or not at all");
                return None;
            }
        };
        let spec = UpstreamTls { server_name: server_name.as_ref().map(|name| name.value.clone()), roots, identity };
        if let Err(message) = Secured::new(&spec, false) {
            self.wrong(tls.at, message);
        }
        Some(spec)
    }

    fn certificates(&mut self, path: &At<PathBuf>) -> Option<Vec<Vec<u8>>> {
        let contents = self.file(path, false)?;
        let read = CertificateDer::pem_slice_iter(&contents).collect::<Result<Vec<_>, _>>();
        let found = read.unwrap_or_default();
        if found.is_empty() {
            self.wrong(path.at, "no certificate in PEM stands in this file");
            return None;
        }
        Some(found.iter().map(|certificate| certificate.to_vec()).collect())
    }

    fn private_key(&mut self, path: &At<PathBuf>) -> Option<Secret> {
        let contents = self.file(path, true)?;
        let Ok(key) = PrivateKeyDer::from_pem_slice(&contents) else {
            self.wrong(path.at, "no private key in PEM stands in this file");
            return None;
        };
        Some(Secret::new(key.secret_der()))
    }
}
