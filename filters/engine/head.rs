//! A request's head as filters see it: borrowed bytes, whichever protocol they came in by.

/// A header as it stood in the request: name (any case) and value without surrounding blanks.
pub type HeaderPair<'a> = (&'a [u8], &'a [u8]);

/// The head of a request. Borrowed, so that a refusal at the door copies nothing.
#[derive(Clone, Copy, Debug)]
pub struct RequestHead<'a> {
    /// The method, as sent (methods are case-sensitive).
    pub method: &'a str,
    /// The target's path and query, as sent.
    pub target: &'a str,
    /// The path routes are matched on: percent-decoded where harmless, dot segments and doubled slashes resolved.
    pub path: &'a str,
    /// The host, lower case, without port; empty when an HTTP/1.0 request has none.
    pub host: &'a str,
    /// Whether the client's connection is encrypted.
    pub secure: bool,
    /// All headers in the order they came.
    pub headers: &'a [HeaderPair<'a>],
}

impl<'a> RequestHead<'a> {
    /// The first header of that name, compared without case; `None` when there is none.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&'a [u8]> {
        self.headers_named(name).next()
    }

    /// All headers of that name, in order.
    pub fn headers_named<'n>(&self, name: &'n str) -> impl Iterator<Item = &'a [u8]> + use<'a, 'n> {
        let name = name.as_bytes();
        self.headers.iter().filter(move |(n, _)| n.eq_ignore_ascii_case(name)).map(|(_, value)| *value)
    }

    /// The first header of that name as text; `None` when absent or not UTF-8.
    #[must_use]
    pub fn header_str(&self, name: &str) -> Option<&'a str> {
        std::str::from_utf8(self.header(name)?).ok()
    }

    /// The query without its question mark; `None` when the target has none.
    #[must_use]
    pub fn query(&self) -> Option<&'a str> {
        self.target.split_once('?').map(|(_, query)| query)
    }
}
