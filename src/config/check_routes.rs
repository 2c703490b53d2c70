//! `routes`: every name resolved, every pattern one that can match, no route in another's shadow.

use std::collections::HashMap;
use std::sync::Arc;

use http::Method;
use tidegate_filters::engine::Priority;

use super::check::Checker;
use super::check_filters::Chains;
use super::file::{ConfigFile, MatchFile, PriorityFile, RouteFile};
use super::paths;
use super::placed::At;
use super::suggest;
use super::tree::{Content, Id};
use super::types::{Route, RouteMatch, Server};

/// The methods that pass a gateway. CONNECT would make a tunnel of it, TRACE shows headers to scripts.
const METHODS: [Method; 7] =
    [Method::GET, Method::HEAD, Method::POST, Method::PUT, Method::PATCH, Method::DELETE, Method::OPTIONS];

impl Checker<'_, '_> {
    pub(super) fn routes(&self, file: &ConfigFile, chains: Chains, server: Option<&Server>) -> Vec<Route> {
        let routes_at = self.tree.at(&["routes"]);
        if file.routes.is_empty() && !routes_at.is_some_and(|at| self.decoder.is_tainted(at)) {
            let help = Some("a route is at least `{name: all, upstream: …}`".to_owned());
            let message = "there are no routes: every request would be refused";
            match routes_at {
                Some(at) => self.wrong_key(at, message, help),
                None => self.wrong_key(super::tree::Tree::ROOT, message, help),
            }
        }
        let fold = server.is_some_and(|server| server.path_case_insensitive);
        let listeners = self.listener_names();
        let mut routes: Vec<Route> = Vec::new();
        for (route, chain) in file.routes.iter().zip(chains) {
            let made = self.route(route, chain, &listeners, fold);
            if routes.iter().any(|other| other.name == made.name) {
                self.wrong(route.value.name.at, format!("two routes are named `{}`", made.name));
            }
            routes.push(made);
        }
        self.shadows(file, &routes);
        routes
    }

    /// Names of listeners as written, those included whose other keys are wrong.
    fn listener_names(&self) -> Vec<&str> {
        let listeners = self.tree.at(&["server", "listeners"]).map_or(&[][..], |at| self.tree.items(at));
        let names = listeners.iter().filter_map(|at| self.tree.scalar(self.tree.child(*at, "name")?));
        names.map(|scalar| scalar.text.as_str()).collect()
    }

    fn route(&self, route: &At<RouteFile>, filters: Vec<Arc<str>>, listeners: &[&str], fold: bool) -> Route {
        let file = &route.value;
        self.name_value(&file.name, "a route");
        let listener = match &file.listener {
            Some(name) => {
                if !listeners.contains(&name.value.as_str()) {
                    self.unresolved(name.at, "listener", &name.value, listeners);
                }
                name.value.clone()
            }
            None => listeners.first().copied().unwrap_or_default().to_owned(),
        };
        let upstreams = self.names("upstreams");
        if !upstreams.contains(&file.upstream.value.as_str()) {
            self.unresolved(file.upstream.at, "upstream", &file.upstream.value, &upstreams);
        }
        Route {
            name: file.name.value.as_str().into(),
            listener,
            matches: self.matches(&file.matches.value, fold),
            priority: match file.priority {
                PriorityFile::Critical => Priority::Critical,
                PriorityFile::High => Priority::High,
                PriorityFile::Normal => Priority::Normal,
                PriorityFile::Bulk => Priority::Bulk,
            },
            filters,
            upstream: file.upstream.value.clone(),
            payments: file.payments.as_ref().and_then(|payments| self.callback(payments, &file.upstream.value)),
            websocket: file.websocket,
            max_body_size: file.max_body_size,
            timeout: file.timeout.as_ref().map(|timeout| self.timeout(timeout, route.at)),
        }
    }

    fn matches(&self, file: &MatchFile, fold: bool) -> RouteMatch {
        let path = file.path.as_ref().and_then(|path| match paths::pattern(&path.value, fold) {
            Ok(pattern) => Some(pattern),
            Err((message, help)) => {
                self.wrong_with_help(path.at, message, help);
                None
            }
        });
        let mut methods: Vec<Method> = file.methods.iter().filter_map(|method| self.method(method)).collect();
        methods.sort_by(|a, b| a.as_str().cmp(b.as_str()));
        let mut headers = Vec::new();
        for (name, value) in &file.headers.0 {
            match name.parse::<http::HeaderName>() {
                Ok(name) => headers.push((name.as_str().to_owned(), value.value.clone())),
                Err(_) => self.wrong_key(value.at, format!("`{name}` is no header's name"), None),
            }
        }
        headers.sort();
        if let Some(twice) = headers.windows(2).find(|pair| pair[0].0 == pair[1].0) {
            let at = file.headers.0.last().map_or(Id::ABSENT, |(_, value)| value.at);
            self.wrong_key(at, format!("the header `{}` stands here twice", twice[0].0), None);
        }
        RouteMatch {
            host: file.host.as_ref().and_then(|host| self.host(host)),
            path: path.unwrap_or_default(),
            methods,
            headers,
        }
    }

    fn method(&self, method: &At<String>) -> Option<Method> {
        let found = METHODS.into_iter().find(|known| known.as_str() == method.value);
        if found.is_none() {
            let help = suggest::nearest_or_list(&method.value, METHODS.iter().map(Method::as_str));
            self.wrong_with_help(method.at, format!("`{}` is no method that routes can match", method.value), help);
        }
        found
    }

    /// A host in lower case, or `*.` and a host.
    fn host(&self, host: &At<String>) -> Option<String> {
        let lower = host.value.to_ascii_lowercase();
        let bare = lower.strip_prefix("*.").unwrap_or(&lower);
        let label = |label: &str| {
            !label.is_empty()
                && label.len() <= 63
                && label.chars().all(|c| c.is_ascii_alphanumeric() || c == '-' || c == '_')
        };
        let v6 = bare.strip_prefix('[').and_then(|rest| rest.strip_suffix(']'));
        if v6.is_some_and(|v6| v6.parse::<std::net::Ipv6Addr>().is_ok()) || bare.split('.').all(label) {
            return Some(lower);
        }
        let help = if let Some((before, _)) = bare.rsplit_once(':').filter(|(_, port)| port.parse::<u16>().is_ok()) {
            Some(format!("a host is matched without its port: `{before}`"))
        } else {
            Some("write `shop.example.com`, or `*.example.com` for all names below".to_owned())
        };
        self.wrong_with_help(host.at, "not a host", help);
        None
    }

    /// Two routes with the same match: the second would never be reached.
    fn shadows(&self, file: &ConfigFile, routes: &[Route]) {
        let mut seen = HashMap::new();
        for (route, made) in file.routes.iter().zip(routes) {
            if self.decoder.is_tainted(route.at) {
                continue;
            }
            let RouteMatch { host, path, methods, headers } = &made.matches;
            let key = (&made.listener, host, path, format!("{methods:?}"), headers);
            if let Some(first) = seen.insert(key, &made.name) {
                let at = if route.value.matches.at == Id::ABSENT { route.at } else { route.value.matches.at };
                // A path that was refused stands for any path here; then nothing can be said.
                let refused = matches!(self.tree.get(at).map(|node| &node.content), Some(Content::Map(_)))
                    && self.tree.child(at, "path").is_some_and(|at| {
                        self.tree.scalar(at).is_some_and(|path| paths::pattern(&path.text, false).is_err())
                    });
                if !refused {
                    self.wrong(at, format!("the match is the same as that of route `{first}`, which is found first"));
                }
            }
        }
    }
}
