//! Books of filters that the configuration does not have: what they have promised is kept all the same.
//!
//! A filter that was taken out of the file, or got another name, store or mode, leaves a book behind that may owe answers. It
//! stays in the registry while it does ([`crate::engine::State::must_stay`]); behind a restart it is found in the file, with
//! the settings it had last, so that its channels are not sent more than they were said to bear.
//!
//! Fails at a file that cannot be read: that is logged, and tried again with the next configuration. So a book joins the
//! registry only once it is read.

use std::collections::HashSet;
use std::sync::Arc;

use super::settings::RespondAsync;
use super::state::Deferred;
use crate::engine::{IdentityId, Rate, StateKey, StateRegistry};

/// The pace of a book whose settings nobody knows: slow enough for any channel.
const CAREFUL: &str = "10/s";

/// The key of the book of the filter `name` in the store `store`.
pub(super) fn key(name: &Arc<str>, store: &str) -> StateKey {
    StateKey::shaped(super::settings::KIND, name.clone(), (store, false))
}

/// Opens the books that `used` does not name and that owe somebody an answer; returns those that are open already, too.
/// May block on files.
#[must_use]
pub fn orphans(states: &StateRegistry, used: &HashSet<StateKey>) -> Vec<Arc<Deferred>> {
    for shelf in states.stores().shelves() {
        let in_use = |name: &str| {
            let key = key(&name.into(), shelf.name());
            used.contains(&key) || states.contains(&key)
        };
        let books = shelf.books(in_use).unwrap_or_else(|error| {
            tracing::error!(target: "tidegate::deferred", store = &**shelf.name(), %error, "its promises cannot be read");
            Vec::new()
        });
        for (name, written) in books.into_iter().filter(|(name, _)| !in_use(name)) {
            let settings = remembered(&written);
            let scope: Arc<str> = settings.scope.as_deref().unwrap_or("client").into();
            let rules = settings.rules(settings.fair_by.as_deref().unwrap_or(&scope));
            let name: Arc<str> = name.into();
            let book = Deferred::open(name.clone(), Some(shelf.clone()), rules.clone(), states.stores().epoch());
            if let Some(error) = book.broken() {
                tracing::error!(target: "tidegate::deferred", filter = &*name, %error, "its promises cannot be read");
                continue;
            }
            // Whoever asks is known by the configuration's identities, not by this one's.
            let terms = settings.terms(IdentityId::CLIENT, &scope);
            book.retune(rules, Arc::new(terms), &written.as_str().into());
            let _ = states.acquire(&key(&name, shelf.name()), || book);
        }
    }
    let all = states.all::<Deferred>().into_iter();
    all.filter(|(key, book)| !used.contains(key) && book.shelf.is_some()).map(|(_, book)| book).collect()
}

/// Settings as the file has them.
fn remembered(written: &str) -> RespondAsync {
    serde_json::from_str(written).unwrap_or_else(|_| {
        let mut careful = RespondAsync::default();
        if let Ok(rate) = CAREFUL.parse::<Rate>() {
            careful.rate = rate;
        }
        careful
    })
}
