//! `filters`, and those written inline in chains: one kind each, settings that make sense, chains in a sensible order.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use erased_serde::Deserializer as ErasedDeserializer;
use serde::Deserialize;
use sha2::{Digest, Sha256};
use tidegate_filters::engine::{CheckContext, FilterChain, Kind, Mode, Problems, SpecProblem, Step};

use super::check::Checker;
use super::check_identity::BUILT_IN;
use super::file::{ConfigFile, FilterUse, ModeFile};
use super::placed::Raw;
use super::suggest;
use super::tree::{Content, Id, Tree};
use super::types::{FilterEntry, StoreSpec};

/// Kinds that the design knows and this version may not have; a gateway that registers one has it.
const LATER_KINDS: [&str; 2] = ["concurrency", "load_guard"];
/// Keys beside a kind that the design knows and this version has not.
const LATER_KEYS: [&str; 2] = ["when", "on_store_error"];

/// The chain of each route, in the order of the decoded routes.
pub(super) type Chains = Vec<Vec<Arc<str>>>;

/// What the check of a chain knows of a filter.
type Steps = HashMap<Arc<str>, Step>;

struct Link {
    name: Arc<str>,
    at: Id,
}

impl<'t> Checker<'_, 't> {
    pub(super) fn filters(
        &mut self,
        file: &ConfigFile,
        specs: &BTreeMap<String, StoreSpec>,
    ) -> (Vec<FilterEntry>, Chains) {
        let identities: Vec<String> = self.names("identity").into_iter().chain(BUILT_IN).map(str::to_owned).collect();
        let stores: Vec<String> = self.names("stores").into_iter().map(str::to_owned).collect();
        // One with a type that is wrong is complained about already.
        let outlives = |name: &&String| matches!(specs.get(*name), None | Some(StoreSpec::Sqlite(_)));
        let durable: Vec<String> = stores.iter().filter(outlives).cloned().collect();
        let cx = CheckContext { identities: &identities, stores: &stores, durable: &durable };
        let mut entries = Vec::new();
        for (name, filter) in &file.filters.0 {
            self.name(filter.at, name, "a filter");
            entries.extend(self.filter(filter.at, name.as_str().into(), &cx));
        }
        let defaults = self.links(&file.defaults.filters, "defaults", &mut entries, &cx);
        let mut own = Vec::new();
        for route in &file.routes {
            let filters = &route.value.filters.value;
            own.push(self.links(filters, &route.value.name.value, &mut entries, &cx));
        }
        let steps: Steps = entries.iter().map(|entry| (entry.name.clone(), entry.spec.step())).collect();
        let mut chains = Vec::new();
        for (route, own) in file.routes.iter().zip(own) {
            let links: Vec<&Link> = defaults.iter().chain(&own).collect();
            self.chain(route.value.filters.or(route.at), &links, &steps);
            chains.push(links.iter().map(|link| link.name.clone()).collect());
        }
        (entries, chains)
    }

    /// The filters of one list; those written inline become entries named after what lists them.
    fn links(
        &self,
        uses: &[Raw<FilterUse>],
        holder: &str,
        entries: &mut Vec<FilterEntry>,
        cx: &CheckContext<'_>,
    ) -> Vec<Link> {
        let known = self.names("filters");
        let mut links = Vec::new();
        let mut inline: BTreeMap<String, usize> = BTreeMap::new();
        for Raw { at, .. } in uses {
            match self.tree.get(*at).map(|node| &node.content) {
                Some(Content::Scalar(scalar)) if known.contains(&scalar.text.as_str()) => {
                    links.push(Link { name: scalar.text.as_str().into(), at: *at });
                }
                Some(Content::Scalar(scalar)) => self.unresolved(*at, "filter", &scalar.text, &known),
                Some(Content::Map(_)) => {
                    let kind = self.kind_of(*at).map_or("?", |(kind, ..)| kind);
                    let count = inline.entry(kind.to_owned()).and_modify(|count| *count += 1).or_insert(1);
                    let number = if *count > 1 { format!("-{count}") } else { String::new() };
                    let name: Arc<str> = format!("{holder}/{kind}{number}").into();
                    entries.extend(self.filter(*at, name.clone(), cx));
                    links.push(Link { name, at: *at });
                }
                _ => self.wrong(*at, "expected a filter's name, or a filter written inline as `{kind: {…}}`"),
            }
        }
        links
    }

    /// Length, repetition and order of a chain.
    fn chain(&self, holder: Id, links: &[&Link], steps: &Steps) {
        if links.len() > FilterChain::LONGEST {
            self.wrong(holder, format!("a chain has at most {} filters", FilterChain::LONGEST));
        }
        let mut latest: Option<(Step, &str)> = None;
        for (at, link) in links.iter().enumerate() {
            if links[..at].iter().any(|other| other.name == link.name) {
                self.wrong(link.at, format!("filter `{}` stands in this chain twice", link.name));
                continue;
            }
            let Some(&step) = steps.get(&link.name).filter(|step| **step != Step::Anywhere) else { continue };
            match latest {
                Some((later, name)) if later > step => {
                    let message =
                        format!("`{}` ({}) must stand before `{name}` ({})", link.name, what(step), what(later));
                    let help = "the order is: limits, waits, deduplication, breakers, choice of a channel";
                    self.wrong_with_help(link.at, message, Some(help.to_owned()));
                }
                _ => latest = Some((step, &link.name)),
            }
        }
    }

    /// The kind of a filter: its name, its table entry, its settings. `None` unless exactly one known kind is there.
    fn kind_of(&self, at: Id) -> Option<(&'t str, Kind, Id)> {
        let mut kinds = self.tree.pairs(at).iter().filter_map(|pair| Some((pair, self.kinds.get(&pair.key)?)));
        let (pair, kind) = kinds.next()?;
        kinds.next().is_none().then_some((pair.key.as_str(), kind, pair.value))
    }

    fn filter(&self, at: Id, name: Arc<str>, cx: &CheckContext<'_>) -> Option<FilterEntry> {
        self.filter_keys(at);
        let mode = self.tree.child(at, "mode");
        let mode = mode.map_or(Some(Mode::Enforce), |id| {
            self.decoder.decode(id, |value| ModeFile::deserialize(value)).map(|mode| mode.value)
        });
        let (kind, entry, settings) = self.kind_of(at)?;
        let spec =
            self.decoder.decode(settings, |value| (entry.parse)(&mut <dyn ErasedDeserializer<'_>>::erase(value)))?;
        if kind == "waiting_room" {
            self.room_use(settings);
        }
        let mut problems = Problems::default();
        spec.check(cx, &mut problems);
        for problem in problems.0 {
            self.spec_problem(settings, problem);
        }
        let line = self.tree.mark(at).map_or(0, |mark| mark.line);
        let fingerprint = fingerprint(self.tree, kind, settings);
        Some(FilterEntry { name, kind: kind.to_owned(), mode: mode?, spec, fingerprint, line })
    }

    /// The keys of a filter: one kind and, beside it, `mode`.
    fn filter_keys(&self, at: Id) {
        let Some(Content::Map(pairs)) = self.tree.get(at).map(|node| &node.content) else {
            return self.wrong(at, "expected a filter, as in `{rate_limit: {…}}`");
        };
        let kinds: Vec<&str> = self.kinds.iter().map(|(name, _)| name).collect();
        let mut found = 0;
        for pair in pairs.iter().filter(|pair| pair.key != "mode" && !self.decoder.is_pruned(pair.value)) {
            let key = pair.key.as_str();
            if self.kinds.get(key).is_some() {
                found += 1;
                if found == 2 {
                    self.wrong_key(pair.value, "a filter is of one kind", None);
                }
            } else if LATER_KINDS.contains(&key) || LATER_KEYS.contains(&key) {
                found += usize::from(!LATER_KEYS.contains(&key));
                self.wrong_key(pair.value, format!("`{key}` is not in this version"), None);
            } else {
                found += 1;
                let help = suggest::nearest_or_list(key, kinds.iter().copied().chain(["mode"]));
                self.wrong_key(pair.value, format!("no kind of filter is named `{key}`"), help);
            }
        }
        if found == 0 && !self.decoder.is_tainted(at) {
            let known = suggest::list(kinds.into_iter());
            self.wrong_key(at, "a filter without a kind", Some(format!("there is {known}")));
        }
    }

    /// Puts a problem that a kind found at its place.
    fn spec_problem(&self, settings: Id, problem: SpecProblem) {
        let mut at = settings;
        for step in problem.path.split(['.', '[']).filter(|step| !step.is_empty()) {
            let next = match step.strip_suffix(']').and_then(|number| number.parse::<usize>().ok()) {
                // What was pruned the kind has not seen, so it did not count it.
                Some(index) => {
                    self.tree.items(at).iter().copied().filter(|item| !self.decoder.is_pruned(*item)).nth(index)
                }
                None => self.tree.child(at, step),
            };
            match next {
                Some(next) => at = next,
                None => break,
            }
        }
        // Something in it is wrong already or was made up: this may be a mere consequence.
        if !self.decoder.is_tainted(at) {
            self.wrong_with_help(at, problem.message, problem.help);
        }
    }
}

fn what(step: Step) -> &'static str {
    match step {
        Step::Anywhere => "anywhere",
        Step::Limit => "limits",
        Step::Wait => "waits",
        Step::Once => "deduplicates",
        Step::Guard => "guards",
        Step::Choose => "chooses",
    }
}

/// Hash of settings as written; the order of keys, blanks and comments make no difference.
fn fingerprint(tree: &Tree, kind: &str, settings: Id) -> u64 {
    let mut hash = Sha256::new();
    hash.update(kind);
    digest(tree, settings, &mut hash);
    let bytes = hash.finalize();
    bytes.iter().take(8).fold(0, |number, byte| number << 8 | u64::from(*byte))
}

fn digest(tree: &Tree, id: Id, hash: &mut Sha256) {
    let mut text = |tag: u8, text: &str| {
        hash.update([tag]);
        hash.update(text.len().to_le_bytes());
        hash.update(text);
    };
    match tree.get(id).map(|node| &node.content) {
        Some(Content::Scalar(scalar)) => text(u8::from(scalar.plain), &scalar.text),
        Some(Content::Seq(items)) => {
            text(2, &items.len().to_string());
            items.iter().for_each(|item| digest(tree, *item, hash));
        }
        Some(Content::Map(pairs)) => {
            let mut pairs: Vec<_> = pairs.iter().collect();
            pairs.sort_by(|a, b| a.key.cmp(&b.key));
            text(3, &pairs.len().to_string());
            for pair in pairs {
                hash.update(pair.key.len().to_le_bytes());
                hash.update(&pair.key);
                digest(tree, pair.value, hash);
            }
        }
        None => (),
    }
}
