//! The key pairs of a channel and of its demo merchant: PEM files in a folder, made when they are first needed.
//!
//! Making them takes seconds and nobody who speaks plain JSON needs them, so a start does not wait for it.

use std::fs::OpenOptions;
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use rcgen::{CertificateParams, DnType, KeyPair, PKCS_RSA_SHA256, SerialNumber, date_time_ymd};

use crate::support::dialect::rsa::{SigningKey, VerifyingKey};
use crate::support::unhex;

const PLATFORM: &str = "platform";
const MERCHANT: &str = "merchant";

/// The keys, parsed.
#[derive(Debug)]
pub(in crate::channel_simulator) struct Keys {
    /// Signs answers and notifications.
    pub(in crate::channel_simulator) platform: SigningKey,
    /// The platform's certificate, PEM.
    pub(in crate::channel_simulator) certificate: String,
    /// Checks calls.
    pub(in crate::channel_simulator) merchant: VerifyingKey,
    /// Where they are.
    pub(in crate::channel_simulator) folder: PathBuf,
}

impl Keys {
    /// Reads the folder, and makes what is missing in it. A merchant who keeps his private key to himself is known by
    /// his public one.
    ///
    /// # Errors
    /// One sentence with the file it is about.
    pub(in crate::channel_simulator) fn open(folder: &Path) -> Result<Self, String> {
        std::fs::create_dir_all(folder).map_err(|error| told(folder, &error))?;
        let platform = signing_key(folder, PLATFORM)?;
        let public = public_file(folder, MERCHANT);
        let merchant = match std::fs::read_to_string(&public) {
            Ok(pem) => VerifyingKey::from_pem(&pem).map_err(|error| told(&public, &error))?,
            Err(error) if error.kind() == io::ErrorKind::NotFound => signing_key(folder, MERCHANT)?.public().clone(),
            Err(error) => return Err(told(&public, &error)),
        };
        let file = folder.join("platform-certificate.pem");
        let certificate = match std::fs::read_to_string(&file) {
            Ok(certificate) => certificate,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                let made = certificate(folder, &platform.public().serial()).map_err(|error| told(&file, &error))?;
                write(&file, &made, 0o644)?;
                made
            }
            Err(error) => return Err(told(&file, &error)),
        };
        Ok(Self { platform, certificate, merchant, folder: folder.to_owned() })
    }
}

/// Reads `NAME-private.pem`, or makes it and `NAME-public.pem`.
fn signing_key(folder: &Path, name: &str) -> Result<SigningKey, String> {
    let file = private_file(folder, name);
    let pem = match std::fs::read_to_string(&file) {
        Ok(pem) => pem,
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let pem = SigningKey::generate().map_err(|error| told(&file, &error))?;
            write(&file, &pem, 0o600)?;
            pem
        }
        Err(error) => return Err(told(&file, &error)),
    };
    let key = SigningKey::from_pem(&pem).map_err(|error| told(&file, &error))?;
    let public = public_file(folder, name);
    if !public.exists() {
        write(&public, key.public().to_pem(), 0o644)?;
    }
    Ok(key)
}

pub(in crate::channel_simulator) fn private_file(folder: &Path, name: &str) -> PathBuf {
    folder.join(format!("{name}-private.pem"))
}

fn public_file(folder: &Path, name: &str) -> PathBuf {
    folder.join(format!("{name}-public.pem"))
}

/// A certificate that the platform gives itself: who trusts it has it from the platform anyway.
fn certificate(folder: &Path, serial: &str) -> Result<String, Box<dyn std::error::Error>> {
    let pem = std::fs::read_to_string(private_file(folder, PLATFORM))?;
    let pair = KeyPair::from_pkcs8_pem_and_sign_algo(&pem, &PKCS_RSA_SHA256)?;
    let mut params = CertificateParams::new(Vec::new())?;
    params.serial_number = Some(SerialNumber::from(unhex(&serial.to_ascii_lowercase()).unwrap_or_default()));
    params.distinguished_name.push(DnType::CommonName, "simulated payment platform");
    (params.not_before, params.not_after) = (date_time_ymd(2020, 1, 1), date_time_ymd(2049, 12, 31));
    Ok(params.self_signed(&pair)?.pem())
}

/// Under another name first: after a crash there is either all of a file or none of it.
fn write(file: &Path, text: &str, mode: u32) -> Result<(), String> {
    let fresh = file.with_extension("new");
    let written = || -> io::Result<()> {
        let mut open = OpenOptions::new().write(true).create(true).truncate(true).mode(mode).open(&fresh)?;
        open.write_all(text.as_bytes())?;
        open.sync_all()?;
        std::fs::rename(&fresh, file)
    };
    written().map_err(|error| told(file, &error))
}

fn told(file: &Path, error: &dyn std::fmt::Display) -> String {
    format!("{}: {error}", file.display())
}
