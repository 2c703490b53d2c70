//! `signature` of a payment channel: one scheme, and a key that can be used.

use jsonwebtoken::DecodingKey;

use super::check::Checker;
use super::file_signature::{HmacFile, PublicKeyFile, SignatureFile};
use super::placed::At;
use super::types_payments::Signature;

impl Checker<'_, '_> {
    pub(super) fn signature(&mut self, signature: &At<SignatureFile>) -> Option<Signature> {
        let SignatureFile { hmac, wechatpay, alipay } = &signature.value;
        match (hmac, wechatpay, alipay) {
            (Some(hmac), None, None) => self.hmac(hmac),
            (None, Some(key), None) => self.rsa_key(key).map(Signature::WechatPay),
            (None, None, Some(key)) => self.rsa_key(key).map(Signature::Alipay),
            _ => {
                if !self.decoder.is_tainted(signature.at) {
                    self.wrong(signature.at, "a signature is one of `hmac`, `wechatpay` and `alipay`");
                }
                None
            }
        }
    }

    fn hmac(&mut self, hmac: &At<HmacFile>) -> Option<Signature> {
        let HmacFile { header, secret, secret_file } = &hmac.value;
        let name = header.value.parse().ok();
        if name.is_none() {
            self.wrong(header.at, format!("`{}` is no header's name", header.value));
        }
        let secret = match (secret, secret_file) {
            (Some(text), None) => self.secret(text),
            (None, Some(file)) => self.secret_file(file),
            _ => {
                if !self.decoder.is_tainted(hmac.at) {
                    self.wrong(hmac.at, "exactly one of `secret` and `secret_file` is needed");
                }
                None
            }
        };
        Some(Signature::Hmac { header: name?, secret: secret? })
    }

    /// The PEM text of a public RSA key.
    fn rsa_key(&mut self, key: &At<PublicKeyFile>) -> Option<Vec<u8>> {
        let path = &key.value.public_key_file;
        let pem = self.file(path, false)?;
        if pem.windows(11).any(|word| word == b"PRIVATE KEY") {
            self.wrong(path.at, "the file holds a private key; a verifier needs the public one only");
        } else if DecodingKey::from_rsa_pem(&pem).is_err() {
            self.wrong(path.at, "not a PEM file with an RSA public key");
        }
        Some(pem)
    }
}
