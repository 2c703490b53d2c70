//! From a request's head to its route, in time that does not depend on how many routes there are.
//!
//! Where several routes match, the most specific wins: an exact host before a wildcard (the longer first) before none; an
//! exact path before a prefix (the longer first); named methods before any; more headers before fewer; then file order.
//! That order is also the order of the search, so the first route that matches is the answer: hosts, then paths, are looked
//! up in hash maps, and only routes of one host and one path pattern are compared one by one.

use std::collections::HashMap;
use std::fmt;

use ahash::RandomState;
use http::Method;
use memchr::memchr_iter;
use smallvec::SmallVec;
use tidegate_filters::engine::RequestHead;

use super::path::fold_case;
use crate::config::{Listener, PathMatch, Route, RouteMatch};

#[cfg(test)]
mod tests;

type Map<T> = HashMap<Box<str>, T, RandomState>;

/// Finds routes. Immutable; one per snapshot.
pub struct RouteTable {
    listeners: Box<[Hosts]>,
    case_insensitive: bool,
}

/// What a search found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Found {
    /// The index of the route in the file.
    Route(usize),
    /// Routes match in everything but the method: 405.
    MethodNotAllowed(Allowed),
    /// 404.
    None,
}

/// Methods that would have matched, sorted; displays as the value of an `Allow` header.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Allowed(Vec<Method>);

impl Allowed {
    /// The methods.
    #[must_use]
    pub fn methods(&self) -> &[Method] {
        &self.0
    }

    fn union(refused: &[&Methods]) -> Self {
        let mut all: Vec<Method> = refused.iter().flat_map(|methods| methods.named.iter().cloned()).collect();
        if all.contains(&Method::GET) {
            all.push(Method::HEAD);
        }
        all.sort_by(|a, b| a.as_str().cmp(b.as_str()));
        all.dedup();
        Self(all)
    }
}

impl fmt::Display for Allowed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, method) in self.0.iter().enumerate() {
            f.write_str(if at == 0 { "" } else { ", " })?;
            f.write_str(method.as_str())?;
        }
        Ok(())
    }
}

impl RouteTable {
    /// A table of `routes`; answers are indices into them. Routes of a listener that is not in `listeners` are left out.
    #[must_use]
    pub fn new(routes: &[Route], listeners: &[Listener], case_insensitive: bool) -> Self {
        let mut tables: Vec<Hosts> = listeners.iter().map(|_| Hosts::default()).collect();
        for (number, route) in routes.iter().enumerate() {
            if let Some(at) = listeners.iter().position(|listener| listener.name == route.listener) {
                tables[at].insert(&route.matches, number, case_insensitive);
            }
        }
        tables.iter_mut().for_each(Hosts::sort);
        Self { listeners: tables.into(), case_insensitive }
    }

    /// The route of a request that came in by the listener of that index. `head.path` is in normal form, `head.host` in
    /// lower case without port.
    #[must_use]
    pub fn find(&self, listener: usize, head: &RequestHead<'_>) -> Found {
        let Some(hosts) = self.listeners.get(listener) else { return Found::None };
        let folded = self.case_insensitive.then(|| fold_case(head.path));
        let path = folded.as_deref().unwrap_or(head.path);
        let mut search = Search { head, path, bit: bit(head.method), refused: SmallVec::new() };
        match hosts.search(&mut search) {
            Some(route) => Found::Route(route),
            None if search.refused.is_empty() => Found::None,
            None => Found::MethodNotAllowed(Allowed::union(&search.refused)),
        }
    }
}

/// One search: what is looked for, and who refused only for the method.
struct Search<'t, 'h> {
    head: &'h RequestHead<'h>,
    path: &'h str,
    bit: u16,
    refused: SmallVec<[&'t Methods; 4]>,
}

/// The routes of one listener.
#[derive(Default)]
struct Hosts {
    exact: Map<Paths>,
    /// By what follows the star: `.example.com`.
    wildcard: Map<Paths>,
    any: Paths,
}

impl Hosts {
    fn insert(&mut self, matches: &RouteMatch, route: usize, case_insensitive: bool) {
        let paths = match matches.host.as_deref() {
            None => &mut self.any,
            Some(host) => match host.strip_prefix('*') {
                Some(suffix) => self.wildcard.entry(suffix.into()).or_default(),
                None => self.exact.entry(host.into()).or_default(),
            },
        };
        paths.insert(matches, route, case_insensitive);
    }

    fn sort(&mut self) {
        let named = self.exact.values_mut().chain(self.wildcard.values_mut());
        named.chain([&mut self.any]).for_each(Paths::sort);
    }

    fn search<'t>(&'t self, search: &mut Search<'t, '_>) -> Option<usize> {
        let host = search.head.host;
        let exact = if self.exact.is_empty() { None } else { self.exact.get(host) };
        // A wildcard stands for one label or more, so the host's first byte is never part of the suffix.
        let dots = memchr_iter(b'.', if self.wildcard.is_empty() { b"" } else { host.as_bytes() });
        let wildcards = dots.filter(|&at| at > 0).filter_map(|at| self.wildcard.get(&host[at..]));
        exact.into_iter().chain(wildcards).chain([&self.any]).find_map(|paths| paths.search(search))
    }
}

/// The routes of one host pattern.
#[derive(Default)]
struct Paths {
    /// By pattern, without the `/**`.
    nodes: Map<Node>,
    /// Routes of `/**`.
    root: Vec<Candidate>,
    /// Bytes of the longest pattern: a longer path is not worth hashing.
    longest: usize,
    /// Segments of the deepest prefix. Bounds the walk, so a path of a thousand slashes costs what an honest one does.
    deepest: usize,
}

/// The routes of one path pattern, most specific first.
#[derive(Default)]
struct Node {
    exact: Vec<Candidate>,
    prefix: Vec<Candidate>,
}

impl Paths {
    fn insert(&mut self, matches: &RouteMatch, route: usize, case_insensitive: bool) {
        let (PathMatch::Exact(pattern) | PathMatch::Prefix(pattern)) = &matches.path;
        let pattern = if case_insensitive { fold_case(pattern) } else { pattern.into() };
        let is_prefix = matches!(matches.path, PathMatch::Prefix(_));
        let candidates = if is_prefix && pattern.is_empty() {
            &mut self.root
        } else {
            self.longest = self.longest.max(pattern.len());
            let node = self.nodes.entry((&*pattern).into()).or_default();
            if is_prefix {
                self.deepest = self.deepest.max(memchr_iter(b'/', pattern.as_bytes()).count());
                &mut node.prefix
            } else {
                &mut node.exact
            }
        };
        candidates.push(Candidate::new(matches, route));
    }

    fn sort(&mut self) {
        let nodes = self.nodes.values_mut().flat_map(|node| [&mut node.exact, &mut node.prefix]);
        for candidates in nodes.chain([&mut self.root]) {
            candidates.sort_by_key(Candidate::rank);
        }
    }

    fn node(&self, path: &str) -> Option<&Node> {
        if path.len() > self.longest { None } else { self.nodes.get(path) }
    }

    fn search<'t>(&'t self, search: &mut Search<'t, '_>) -> Option<usize> {
        let path = search.path;
        if let Some(node) = self.node(path) {
            let here = node.exact.iter().chain(&node.prefix);
            if let Some(route) = search.first(here) {
                return Some(route);
            }
        }
        // Beyond the longest pattern no slash can end one.
        let worth = path.as_bytes().iter().take(self.longest + 1).enumerate().skip(1);
        let slashes = worth.filter(|(_, byte)| **byte == b'/').map(|(at, _)| at);
        let ends: SmallVec<[usize; 16]> = slashes.take(self.deepest).collect();
        for &end in ends.iter().rev() {
            if let Some(route) = self.node(&path[..end]).and_then(|node| search.first(node.prefix.iter())) {
                return Some(route);
            }
        }
        // `*` (of `OPTIONS *`) is not a path below the root.
        if path.starts_with('/') { search.first(self.root.iter()) } else { None }
    }
}

impl<'t> Search<'t, '_> {
    fn first(&mut self, candidates: impl Iterator<Item = &'t Candidate>) -> Option<usize> {
        for candidate in candidates {
            let method = candidate.methods.allow(self.bit, self.head.method);
            match (candidate.has_headers(self.head), method) {
                (true, true) => return Some(candidate.route),
                (true, false) => self.refused.push(&candidate.methods),
                (false, _) => {}
            }
        }
        None
    }
}

/// A header's name and, if it matters, its value.
type WantedHeader = (Box<str>, Option<Box<str>>);

/// A route as far as its host and path do not tell.
struct Candidate {
    route: usize,
    methods: Methods,
    headers: Box<[WantedHeader]>,
}

impl Candidate {
    fn new(matches: &RouteMatch, route: usize) -> Self {
        let header = |(name, value): &(String, Option<String>)| (name.as_str().into(), value.as_deref().map(Box::from));
        Self { route, methods: Methods::new(&matches.methods), headers: matches.headers.iter().map(header).collect() }
    }

    /// Smaller is more specific.
    fn rank(&self) -> (bool, std::cmp::Reverse<usize>, usize) {
        (self.methods.named.is_empty(), std::cmp::Reverse(self.headers.len()), self.route)
    }

    /// One line of that name with that value is enough, whatever other lines say.
    fn has_headers(&self, head: &RequestHead<'_>) -> bool {
        self.headers.iter().all(|(name, wanted)| {
            let mut values = head.headers_named(name);
            match wanted {
                Some(wanted) => values.any(|value| value == wanted.as_bytes()),
                None => values.next().is_some(),
            }
        })
    }
}

/// Which methods a route takes.
struct Methods {
    /// The common ones, as bits.
    bits: u16,
    /// As written; empty: any.
    named: Box<[Method]>,
}

impl Methods {
    fn new(named: &[Method]) -> Self {
        let bits = named.iter().fold(0, |bits, method| bits | bit(method.as_str()));
        // What answers GET answers HEAD.
        let head = if bits & bit("GET") == 0 { 0 } else { bit("HEAD") };
        Self { bits: bits | head, named: named.into() }
    }

    fn allow(&self, bit: u16, method: &str) -> bool {
        self.bits & bit != 0
            || self.named.is_empty()
            || (bit == 0 && self.named.iter().any(|named| named.as_str() == method))
    }
}

/// A bit for a common method, 0 for any other.
fn bit(method: &str) -> u16 {
    match method {
        "GET" => 1,
        "HEAD" => 1 << 1,
        "POST" => 1 << 2,
        "PUT" => 1 << 3,
        "DELETE" => 1 << 4,
        "PATCH" => 1 << 5,
        "OPTIONS" => 1 << 6,
        "CONNECT" => 1 << 7,
        "TRACE" => 1 << 8,
        _ => 0,
    }
}
