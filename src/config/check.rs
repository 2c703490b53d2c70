//! What a file means: names resolved, numbers in range, files read. Makes the [`Config`] and finds what no type can say.

use std::net::IpAddr;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use tidegate_filters::engine::{Kinds, TimeSpan};

use super::decode::Decoder;
use super::file::ConfigFile;
use super::finding::{Finding, Place};
use super::placed::At;
use super::suggest;
use super::tree::{Id, Tree};
use super::types::Config;

/// Longest name of anything: names become labels of metrics and parts of paths.
const LONGEST_NAME: usize = 64;
/// Longest time that any timeout may say; more is a slip of the unit.
pub(super) const DAY: Duration = Duration::from_secs(86_400);
/// Largest file a key may name: keys are some kilobytes.
const LARGEST_KEY_FILE: u64 = 1 << 20;

/// Collects findings while the meaning of a file is worked out.
pub(super) struct Checker<'a, 't> {
    pub(super) decoder: &'a Decoder<'t>,
    pub(super) tree: &'t Tree,
    pub(super) kinds: &'a Kinds,
    /// Directory that `*_file` is relative to.
    pub(super) base: &'a Path,
    pub(super) warnings: Vec<Finding>,
    /// Files that were read, with their contents, for watching and for the hash.
    pub(super) read: Vec<(PathBuf, Vec<u8>)>,
}

impl<'t> Checker<'_, 't> {
    /// Says that something at a value is wrong; nothing when the value was made up.
    pub(super) fn wrong(&self, at: Id, message: impl Into<String>) {
        self.wrong_with_help(at, message, None);
    }

    /// Like [`Self::wrong`], with what to write instead.
    pub(super) fn wrong_with_help(&self, at: Id, message: impl Into<String>, help: Option<String>) {
        if at != Id::FILLED {
            self.decoder.add(Finding::new(Place::Value(at), message, help));
        }
    }

    /// Says that something is wrong with a named thing, at its name.
    pub(super) fn wrong_key(&self, at: Id, message: impl Into<String>, help: Option<String>) {
        if at != Id::FILLED {
            self.decoder.add(Finding::new(Place::Key(at), message, help));
        }
    }

    pub(super) fn warn(&mut self, at: Id, message: impl Into<String>, help: Option<String>) {
        self.warnings.push(Finding::new(Place::Value(at), message, help));
    }

    /// Works out the whole file. `None` only when something was found wrong.
    pub(super) fn config(&mut self, file: &ConfigFile) -> Option<Config> {
        if file.version.value != 1 {
            let help = Some("this gateway reads version 1".to_owned());
            self.wrong_with_help(file.version.at, format!("version {} is unknown", file.version.value), help);
        }
        let server = self.server(&file.server);
        let admin = self.admin(&file.admin, &file.server.value);
        let stores = self.stores(&file.stores);
        let identity = self.identity(&file.identity);
        let upstreams = self.upstreams(&file.upstreams, &stores);
        let rooms = self.rooms(&file.waiting_rooms);
        if server.as_ref().is_some_and(|server| server.path_case_insensitive) {
            self.room_capitals(&file.waiting_rooms);
        }
        let room_path = self.room_path(&file.waiting_room_path);
        let room_keys = self.room_keys(&file.waiting_room_keys, &file.waiting_rooms);
        let (filters, chains) = self.filters(file, &stores);
        let routes = self.routes(file, chains, server.as_ref());
        let (server, admin) = (server?, admin?);
        let config =
            Config { server, admin, stores, identity, upstreams, rooms, room_path, room_keys, filters, routes };
        Some(config)
    }

    /// Checks a name that stands as a key.
    pub(super) fn name(&self, at: Id, name: &str, of: &str) {
        if let Some(message) = bad_name(name, of) {
            self.wrong_key(at, message, None);
        }
    }

    /// Checks a name that stands as a value.
    pub(super) fn name_value(&self, name: &At<String>, of: &str) {
        if let Some(message) = bad_name(&name.value, of) {
            self.wrong(name.at, message);
        }
    }

    /// Names that a section of the file defines, those included whose contents are wrong.
    pub(super) fn names(&self, section: &str) -> Vec<&'t str> {
        let section = self.tree.child(Tree::ROOT, section);
        section.map_or_else(Vec::new, |id| self.tree.pairs(id).iter().map(|pair| pair.key.as_str()).collect())
    }

    /// Says that a name is not defined, with the nearest one that is.
    pub(super) fn unresolved(&self, at: Id, what: &str, name: &str, known: &[&str]) {
        let help = suggest::nearest_or_list(name, known.iter().copied());
        self.wrong_with_help(at, format!("no {what} is named `{name}`"), help);
    }

    /// A time within bounds, both included.
    pub(super) fn span(&self, span: &At<TimeSpan>, holder: Id, least: Duration, most: Duration) -> Duration {
        let TimeSpan(value) = span.value;
        if value < least || value > most {
            let (least, most) = (TimeSpan(least), TimeSpan(most));
            self.wrong(span.or(holder), format!("must be between {least} and {most}"));
        }
        value
    }

    /// A timeout: above zero, a day at most.
    pub(super) fn timeout(&self, span: &At<TimeSpan>, holder: Id) -> Duration {
        self.span(span, holder, Duration::from_millis(1), DAY)
    }

    /// A count within bounds, both included.
    pub(super) fn count(&self, count: &At<u64>, holder: Id, least: u64, most: u64) -> usize {
        if count.value < least || count.value > most {
            self.wrong(count.or(holder), format!("must be between {least} and {most}"));
        }
        usize::try_from(count.value).unwrap_or(usize::MAX)
    }

    /// `host:port` taken apart.
    pub(super) fn address<'s>(&self, address: &'s At<String>, holder: Id, zero: bool) -> Option<(&'s str, u16)> {
        let parts = split_address(&address.value);
        match parts {
            Ok((_, 0)) if !zero => {
                self.wrong(address.or(holder), "port 0 cannot be connected to");
                None
            }
            Ok(parts) => Some(parts),
            Err(message) => {
                let help = Some("write `host:port`, as in `127.0.0.1:8080` or `[::1]:8080`".to_owned());
                self.wrong_with_help(address.or(holder), message, help);
                None
            }
        }
    }

    /// The contents of a file that the configuration names.
    pub(super) fn file(&mut self, path: &At<PathBuf>, secret: bool) -> Option<Vec<u8>> {
        let full = self.base.join(&path.value);
        let reading = std::fs::metadata(&full).and_then(|meta| {
            let contents =
                if meta.is_file() && meta.len() <= LARGEST_KEY_FILE { std::fs::read(&full)? } else { Vec::new() };
            Ok((meta, contents))
        });
        let (meta, contents) = match reading {
            Ok(read) => read,
            Err(error) => {
                self.wrong(path.at, format!("the file cannot be read: {}", error.kind()));
                // Watched all the same: it may come.
                self.read.push((full, Vec::new()));
                return None;
            }
        };
        if !meta.is_file() || meta.len() > LARGEST_KEY_FILE {
            self.wrong(path.at, "not a file of at most 1MiB");
            return None;
        }
        let mode = meta.permissions().mode() & 0o777;
        if secret && mode & 0o037 != 0 {
            let help = Some("allow at most 0640: `chmod 640`, or 600".to_owned());
            self.wrong_with_help(
                path.at,
                format!("a secret in a file that too many may touch (mode {mode:04o})"),
                help,
            );
        }
        self.read.push((full, contents.clone()));
        Some(contents)
    }
}

fn bad_name(name: &str, of: &str) -> Option<String> {
    let good = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    let fits = !name.is_empty() && name.len() <= LONGEST_NAME && name.chars().all(good);
    (!fits).then(|| format!("the name of {of} is made of 1 to {LONGEST_NAME} letters, digits, `-`, `_` and `.`"))
}

/// Takes `host:port` apart; an IPv6 address stands in brackets, which are not part of the host.
pub(super) fn split_address(text: &str) -> Result<(&str, u16), String> {
    let (host, port) = text.rsplit_once(':').ok_or("an address without a port")?;
    let port = port.parse().map_err(|_| "the port is no number from 0 to 65535")?;
    let host = match host.strip_prefix('[') {
        Some(rest) => {
            let host = rest.strip_suffix(']').ok_or("a `[` without its `]`")?;
            host.parse::<std::net::Ipv6Addr>().map_err(|_| "no IPv6 address stands in the brackets")?;
            host
        }
        None => host,
    };
    let name = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '.' | '_');
    let digits = |c: char| c.is_ascii_digit() || c == '.';
    if host.is_empty() {
        Err("an address without a host".to_owned())
    } else if host.parse::<IpAddr>().is_ok() {
        if text.starts_with('[') || !host.contains(':') {
            Ok((host, port))
        } else {
            Err("an IPv6 address stands in brackets".to_owned())
        }
    } else if !host.chars().all(name) || host.chars().all(digits) {
        Err("the host is neither a name nor an address".to_owned())
    } else {
        Ok((host, port))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_a_host_and_a_port() {
        for (text, host, port) in
            [("127.0.0.1:80", "127.0.0.1", 80), ("[::1]:0", "::1", 0), ("db-1.local:65535", "db-1.local", 65535)]
        {
            assert_eq!(split_address(text), Ok((host, port)));
        }
        for text in
            ["", ":", "a", "a:", "a:x", "a:65536", ":80", "::1:80", "[::1:80", "300.1.1.1:80", "a b:80", "http://a:80"]
        {
            assert!(split_address(text).is_err(), "{text}");
        }
    }
}
