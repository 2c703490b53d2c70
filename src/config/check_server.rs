//! `server` and `admin`: listeners that do not clash, limits that a gateway can live with, an admin port that is not
//! open to the world.

use std::net::IpAddr;
use std::time::Duration;

use tidegate_filters::engine::ByteSize;

use super::check::{Checker, DAY, split_address};
use super::file_server::{AdminFile, LimitsFile, ListenerFile, PathCaseFile, ProtocolFile, ServerFile, ThreadsFile};
use super::placed::At;
use super::secret::Secret;
use super::types::{Admin, Limits, Listener, Server};

/// Most threads: beyond any machine, so a larger number is a slip.
const MOST_THREADS: u64 = 1024;

impl Checker<'_, '_> {
    pub(super) fn server(&mut self, file: &At<ServerFile>) -> Option<Server> {
        let ServerFile { listeners, threads, data_dir, trusted_proxies, limits, shutdown, path_case } = &file.value;
        if listeners.is_empty() && !self.decoder.is_tainted(file.at) {
            self.wrong(file.at, "at least one listener is needed");
        }
        let listeners = listeners.iter().map(|listener| self.listener(listener)).collect();
        self.clashes(&file.value);
        let threads = match threads.value {
            ThreadsFile::Auto => None,
            ThreadsFile::Count(count) => {
                Some(self.count(&At { at: threads.at, value: count }, file.at, 1, MOST_THREADS))
            }
        };
        if data_dir.value.as_os_str().is_empty() {
            self.wrong(data_dir.or(file.at), "an empty path");
        }
        Some(Server {
            listeners,
            threads,
            data_dir: data_dir.value.clone(),
            trusted_proxies: trusted_proxies.iter().map(|net| net.value.0).collect(),
            limits: self.limits(limits),
            drain_timeout: self.span(&shutdown.drain_timeout, file.at, Duration::ZERO, DAY),
            path_case_insensitive: *path_case == PathCaseFile::Insensitive,
        })
    }

    fn listener(&mut self, listener: &At<ListenerFile>) -> Listener {
        let ListenerFile { name, address, protocols, tls } = &listener.value;
        self.name_value(name, "a listener");
        self.address(address, listener.at, true);
        let listed = protocols.as_ref().map_or(&[ProtocolFile::H1][..], |protocols| &protocols.value);
        if let Some(protocols) = protocols {
            if protocols.value.is_empty() && !self.decoder.is_tainted(protocols.at) {
                self.wrong(protocols.at, "a listener speaks `h1`, `h2c` or both");
            }
            if tls.is_some() {
                let help = Some("leave `protocols` out".to_owned());
                self.wrong_with_help(protocols.at, "with `tls`, both protocols are offered by ALPN", help);
            }
        }
        let tls = tls.as_ref().map(|tls| {
            self.file(&tls.certificate, false);
            self.file(&tls.key, true);
            (self.base.join(&tls.certificate.value), self.base.join(&tls.key.value))
        });
        Listener {
            name: name.value.clone(),
            address: address.value.clone(),
            h1: tls.is_some() || listed.contains(&ProtocolFile::H1),
            h2c: listed.contains(&ProtocolFile::H2c) && tls.is_none(),
            tls,
        }
    }

    fn clashes(&self, file: &ServerFile) {
        for (at, one) in file.listeners.iter().enumerate() {
            for other in &file.listeners[..at] {
                let (one, other) = (&one.value, &other.value);
                if one.name.value == other.name.value {
                    self.wrong(one.name.at, format!("two listeners are named `{}`", one.name.value));
                }
                if clash(&one.address.value, &other.address.value) {
                    let message = format!("the address is taken by listener `{}`", other.name.value);
                    self.wrong(one.address.at, message);
                }
            }
        }
    }

    fn limits(&self, file: &At<LimitsFile>) -> Limits {
        let holder = file.at;
        let limits = &file.value;
        let max_connections = self.count(&limits.max_connections, holder, 1, 10_000_000);
        let per_client = match &limits.max_connections_per_client {
            Some(count) => self.count(count, holder, 1, limits.max_connections.value.max(1)),
            None => (max_connections / 4).max(64).min(max_connections),
        };
        let ByteSize(head) = limits.max_header_size.value;
        if !(1 << 10..=1 << 20).contains(&head) {
            self.wrong(limits.max_header_size.or(holder), "must be between 1KiB and 1MiB");
        }
        Limits {
            max_connections,
            max_connections_per_client: per_client,
            max_header_size: limits.max_header_size.value,
            max_headers: self.count(&limits.max_headers, holder, 8, 1000),
            max_body_size: limits.max_body_size,
            header_timeout: self.timeout(&limits.header_timeout, holder),
            body_timeout: self.timeout(&limits.body_timeout, holder),
            request_timeout: self.timeout(&limits.request_timeout, holder),
            idle_timeout: self.timeout(&limits.idle_timeout, holder),
        }
    }

    pub(super) fn admin(&mut self, file: &At<AdminFile>, server: &ServerFile) -> Option<Admin> {
        let AdminFile { address, token, token_file } = &file.value;
        let host = self.address(address, file.at, true).map(|(host, _)| host);
        for listener in &server.listeners {
            if clash(&address.value, &listener.value.address.value) {
                let message = format!("the address is taken by listener `{}`", listener.value.name.value);
                self.wrong(
                    if address.at == super::tree::Id::ABSENT { listener.value.address.at } else { address.at },
                    message,
                );
            }
        }
        if let (Some(_), Some(token_file)) = (token, token_file) {
            self.wrong(token_file.at, "`token` and `token_file` exclude each other");
        }
        let tainted = self.decoder.is_tainted(file.at);
        let token = match (token, token_file) {
            (Some(token), _) => self.secret(token).filter(|secret| !secret.expose().is_empty()),
            (None, Some(file)) => self.secret_file(file),
            (None, None) => None,
        };
        if token.is_none() && !tainted && host.is_some_and(|host| !is_loopback(host)) {
            let help = Some("give `token: \"${TIDEGATE_ADMIN_TOKEN}\"`, or listen on 127.0.0.1".to_owned());
            self.wrong_with_help(address.or(file.at), "an admin address that is not loopback requires a token", help);
        }
        Some(Admin { address: address.value.clone(), token })
    }

    /// A secret written as `${NAME}`. A literal is refused: files are copied, mailed and checked in.
    pub(super) fn secret(&mut self, text: &At<String>) -> Option<Secret> {
        let scalar = self.tree.scalar(text.at)?;
        if scalar.literal && !scalar.text.is_empty() {
            let key = self.tree.nearest_key(text.at).unwrap_or("secret");
            let help = Some(format!("write `{key}: \"${{NAME}}\"` and set the variable, or use `{key}_file`"));
            self.wrong_with_help(text.at, "a secret does not stand in the file itself", help);
        }
        if let Some(used) = scalar.env.iter().find(|used| used.by_default && !used.value.is_empty()) {
            let help = Some(format!("set the variable `{}`", used.name));
            self.warn(text.at, "the default of a secret is used, and whoever reads the file knows it", help);
        }
        Some(Secret::new(text.value.clone()))
    }

    /// A secret in a file of its own; one line break at its end is not part of it.
    pub(super) fn secret_file(&mut self, path: &At<std::path::PathBuf>) -> Option<Secret> {
        let contents = self.file(path, true)?;
        let contents = contents.strip_suffix(b"\n").unwrap_or(&contents);
        let contents = contents.strip_suffix(b"\r").unwrap_or(contents);
        if contents.is_empty() {
            self.wrong(path.at, "the file is empty");
            return None;
        }
        Some(Secret::new(contents))
    }
}

fn is_loopback(host: &str) -> bool {
    host == "localhost" || host.parse::<IpAddr>().is_ok_and(|ip| ip.to_canonical().is_loopback())
}

/// Whether two addresses cannot both be listened on. Names are compared as written.
fn clash(one: &str, other: &str) -> bool {
    let (Ok((one, a)), Ok((other, b))) = (split_address(one), split_address(other)) else { return false };
    let everywhere = |host: &str| matches!(host, "0.0.0.0" | "::");
    a == b && a != 0 && (one == other || everywhere(one) || everywhere(other))
}
