//! Who a request belongs to: its client's address, and the users and merchants that a file names.
//!
//! An identity buys a bucket of its own, so it must cost a proof: a signed token, or the word of a peer that is trusted.
//! Sources are tried in order and the first that has anything to say decides, for good or ill: a bad token is not
//! excused by a weaker source behind it, or a forger would only have to spoil the token to be believed by the header. Such
//! a request goes on without that identity, with a note ([`JWT_INVALID`], [`HEADER_INVALID`]) in its log line; the filters
//! keyed by that identity say what happens to requests without one.
//!
//! # Secrets and time
//!
//! MACs and signatures are compared in constant time by the libraries that compute them. What is compared in plain time is
//! public to whoever sends it: algorithm and key names, issuer, audience; and cached tokens, of which see `cache`.

mod address;
mod cache;
mod jwt;
mod keys;
mod reserved;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::Duration;

use ipnet::IpNet;
use tidegate_filters::engine::{Identity, IdentityId, Key, KeyHasher, RequestContext, RequestHead};

use crate::config::IdentitySource;
use crate::snapshot::client_prefix;
use cache::{TokenCache, Verified};
use jwt::{Presented, Verifier};
use reserved::Reserved;

/// Note of a request whose token was refused; the value is the number of the identity it would have given.
pub const JWT_INVALID: &str = "jwt_invalid";
/// Note of a request whose identity header was refused: twice there, empty, too long or not text.
pub const HEADER_INVALID: &str = "identity_header_invalid";

/// The header by which internal services commonly name the user.
const X_USER_ID: &str = "x-user-id";
/// Longest name of anybody, in bytes: what is kept as text and passed on in a header.
const LONGEST_NAME: usize = 256;
/// Identities a file may name: what asks for them is a set of 64 bits, of which three are built in.
const MOST_NAMED: usize = 64 - IdentityId::FIRST_NAMED as usize;

/// All ways to learn identities, compiled. Immutable but for its cache of verified tokens; one per snapshot.
pub struct Identities {
    user: Option<IdentityId>,
    ids: BTreeMap<String, IdentityId>,
    /// By number, from [`IdentityId::FIRST_NAMED`].
    named: Box<[Box<[Source]>]>,
    trusted_proxies: Box<[IpNet]>,
    reserved: Reserved,
    global: Identity,
    hasher: KeyHasher,
    tokens: TokenCache,
}

enum Source {
    /// The number is the source's own, over all identities: what one source verified is nothing to another.
    Jwt(usize, Box<Verifier>),
    TrustedHeader {
        header: String,
        from: Box<[IpNet]>,
    },
    Header(String),
}

/// What a source says about a request.
enum Answer {
    /// Nothing: the next one is asked.
    Nothing,
    /// Who it is.
    Known(Identity),
    /// Somebody claims to be somebody, and it does not hold. The note says why.
    Refused(&'static str),
}

/// A request, as sources look at it.
struct Asked<'a> {
    peer: IpAddr,
    head: &'a RequestHead<'a>,
    second: u64,
}

impl Identities {
    /// The identities of a file, numbered in its order from [`IdentityId::FIRST_NAMED`].
    ///
    /// # Errors
    /// A sentence that begins with the identity's name: a name that is built in or used twice, too many names, or key
    /// material that cannot be used.
    pub fn new(
        identity: &[(String, Vec<IdentitySource>)],
        trusted_proxies: &[IpNet],
        hasher: &KeyHasher,
    ) -> Result<Self, String> {
        let built_in = [("client", IdentityId::CLIENT), ("route", IdentityId::ROUTE), ("global", IdentityId::GLOBAL)];
        let mut ids = BTreeMap::from(built_in.map(|(name, id)| (name.to_owned(), id)));
        if identity.len() > MOST_NAMED {
            return Err(format!("identity: {} are named; at most {MOST_NAMED} can be", identity.len()));
        }
        for ((name, _), number) in identity.iter().zip(IdentityId::FIRST_NAMED..) {
            if ids.insert(name.clone(), IdentityId(number)).is_some() {
                return Err(format!("identity `{name}`: the name is built in or used twice"));
            }
        }
        let mut jwts = 0;
        let mut compile = |(name, sources): &(String, Vec<IdentitySource>)| {
            let sources = sources.iter().map(|source| Source::new(source, &mut jwts));
            sources.collect::<Result<_, _>>().map_err(|why| format!("identity `{name}`: {why}"))
        };
        let sources = || identity.iter().flat_map(|(_, sources)| sources);
        let trusted_headers = sources().filter_map(|source| match source {
            IdentitySource::TrustedHeader { header, .. } => Some(header.as_str()),
            _ => None,
        });
        // Too many backends believe this one for a client's word to pass, unless the file takes it as it is.
        let taken_as_it_is = sources().any(|s| matches!(s, IdentitySource::Header(header) if header == X_USER_ID));
        let usual = (!taken_as_it_is).then_some(X_USER_ID);
        let trusted_headers = trusted_headers.chain(usual);
        Ok(Self {
            user: ids.get("user").copied(),
            ids,
            named: identity.iter().map(&mut compile).collect::<Result<_, _>>()?,
            trusted_proxies: address::canonical(trusted_proxies),
            reserved: Reserved::new(trusted_headers),
            global: Identity { key: hasher.key(u64::from(IdentityId::GLOBAL.0), b""), text: None },
            hasher: hasher.clone(),
            tokens: TokenCache::new(),
        })
    }

    /// All names and their numbers, `client`, `route` and `global` included.
    #[must_use]
    pub fn ids(&self) -> &BTreeMap<String, IdentityId> {
        &self.ids
    }

    /// The identity called `user`, which upstreams and the access log are told; `None` when the file names none.
    #[must_use]
    pub fn user_id(&self) -> Option<IdentityId> {
        self.user
    }

    /// Whether a peer is one of the trusted proxies.
    #[must_use]
    pub fn trusts(&self, peer: IpAddr) -> bool {
        !self.trusted_proxies.is_empty() && address::within(&self.trusted_proxies, peer)
    }

    /// The client's address: the peer's, or what trusted proxies say in `X-Forwarded-For`. Canonical (IPv4 is never
    /// written as IPv6) and whole; [`client_prefix`] of it is what limits know.
    #[must_use]
    pub fn client_address(&self, peer: IpAddr, head: &RequestHead<'_>) -> IpAddr {
        address::client(&self.trusted_proxies, peer, head)
    }

    /// Sets the identities of `needs` (bits by [`IdentityId`]) in `cx`, as far as the request has them. `cx.client` is what
    /// [`client_address`](Self::client_address) gave; the route's own identity is set by whoever found the route.
    /// `unix_now` is the time since 1970, which tokens are checked against.
    pub fn resolve(
        &self,
        needs: u64,
        peer: IpAddr,
        head: &RequestHead<'_>,
        unix_now: Duration,
        cx: &mut RequestContext,
    ) {
        let needed = |id: IdentityId| needs >> id.0 & 1 == 1;
        if needed(IdentityId::CLIENT) {
            cx.set_identity(IdentityId::CLIENT, self.client_identity(cx.client));
        }
        if needed(IdentityId::GLOBAL) {
            cx.set_identity(IdentityId::GLOBAL, self.global.clone());
        }
        if needs >> IdentityId::FIRST_NAMED == 0 {
            return;
        }
        let asked = Asked { peer: peer.to_canonical(), head, second: unix_now.as_secs() };
        for (sources, number) in self.named.iter().zip(IdentityId::FIRST_NAMED..) {
            let id = IdentityId(number);
            if needed(id) {
                match self.ask(sources, id, &asked) {
                    Answer::Known(identity) => cx.set_identity(id, identity),
                    Answer::Refused(note) => cx.note(note, u64::from(number)),
                    Answer::Nothing => {}
                }
            }
        }
    }

    /// The identity of a client's address: IPv4 whole, IPv6 by /64. Has no text; logs have the address.
    #[must_use]
    pub fn client_identity(&self, address: IpAddr) -> Identity {
        let domain = u64::from(IdentityId::CLIENT.0);
        let key = match client_prefix(address) {
            IpAddr::V4(v4) => self.hasher.key(domain, &v4.octets()),
            IpAddr::V6(v6) => self.hasher.key(domain, &v6.octets()),
        };
        Identity { key, text: None }
    }

    /// The key under which state of `text` is kept, for looking it up by hand; `None` when `text` cannot be one of that
    /// kind. The text of `global` does not matter.
    #[must_use]
    pub fn key_of(&self, id: IdentityId, text: &str) -> Option<Key> {
        match id {
            IdentityId::CLIENT => Some(self.client_identity(text.parse().ok()?).key),
            IdentityId::GLOBAL => Some(self.global.key),
            _ => Some(Identity::new(&self.hasher, id, text).key),
        }
    }

    /// Whether a client's header of that name must not reach an upstream: `X-Tidegate-*`, `Tidegate-*` and every trusted
    /// header, in any case and with `_` for `-`. `Tidegate-Channel`, spelled so, is a request header like others.
    #[must_use]
    pub fn is_reserved(&self, name: &[u8]) -> bool {
        self.reserved.contains(name)
    }

    fn ask(&self, sources: &[Source], id: IdentityId, asked: &Asked<'_>) -> Answer {
        let answers = sources.iter().map(|source| match source {
            Source::Jwt(number, verifier) => self.ask_token(*number, verifier, id, asked),
            Source::TrustedHeader { header, from } if address::within(from, asked.peer) => {
                self.ask_header(header, id, asked)
            }
            Source::TrustedHeader { .. } => Answer::Nothing,
            Source::Header(header) => self.ask_header(header, id, asked),
        });
        answers.into_iter().find(|answer| !matches!(answer, Answer::Nothing)).unwrap_or(Answer::Nothing)
    }

    fn ask_token(&self, number: usize, verifier: &Verifier, id: IdentityId, asked: &Asked<'_>) -> Answer {
        let token = match verifier.find(asked.head) {
            Presented::Nothing => return Answer::Nothing,
            Presented::Nonsense => return Answer::Refused(JWT_INVALID),
            Presented::Token(token) => token,
        };
        let known = self.tokens.get(number, token).or_else(|| {
            let claims = verifier.verify(token)?;
            let identity = Identity::new(&self.hasher, id, &claims.name);
            let verified = Verified { identity, not_before: claims.not_before, expires: claims.expires };
            // One that expired is kept too: whoever goes on polling with it is turned away without another check.
            self.tokens.put(number, token, verified.clone());
            Some(verified)
        });
        match known {
            Some(verified) if verified.is_alive(asked.second) => Answer::Known(verified.identity),
            _ => Answer::Refused(JWT_INVALID),
        }
    }

    /// A header that is believed. It has to be there once: of two, one may be the client's own.
    fn ask_header(&self, header: &str, id: IdentityId, asked: &Asked<'_>) -> Answer {
        let mut values = asked.head.headers_named(header);
        let Some(value) = values.next() else { return Answer::Nothing };
        match (text(value), values.next()) {
            (Some(name), None) => Answer::Known(Identity::new(&self.hasher, id, name)),
            _ => Answer::Refused(HEADER_INVALID),
        }
    }
}

impl Source {
    fn new(source: &IdentitySource, jwts: &mut usize) -> Result<Self, String> {
        Ok(match source {
            IdentitySource::Jwt(source) => {
                *jwts += 1;
                Source::Jwt(*jwts, Box::new(Verifier::new(source)?))
            }
            IdentitySource::TrustedHeader { header, from } => {
                Source::TrustedHeader { header: header.clone(), from: address::canonical(from) }
            }
            IdentitySource::Header(header) => Source::Header(header.clone()),
        })
    }
}

/// `value` if it can be somebody's name: text that goes into a header and comes out of it unchanged.
fn text(value: &[u8]) -> Option<&str> {
    let text = std::str::from_utf8(value).ok()?;
    if text.is_empty() || text.len() > LONGEST_NAME {
        return None;
    }
    // Nearly all names are of visible ASCII; what else there is takes longer to look at.
    let visible = value.iter().fold(true, |all, byte| all & byte.is_ascii_graphic());
    (visible || (text.trim() == text && !text.chars().any(char::is_control))).then_some(text)
}
