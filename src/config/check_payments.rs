//! Payments in `upstreams`: where their numbers stand, what channels' answers mean, and what failover rests on.

use std::collections::BTreeMap;
use std::time::Duration;

use http::{HeaderName, HeaderValue, Method};

use super::check::Checker;
use super::file::UpstreamFile;
use super::file_channel::ChannelFile;
use super::file_payments::{CallFile, CallbackFile, CodeFile, CodesFile, LocatorFile, PaymentFile};
use super::placed::At;
use super::suggest;
use super::tree::Id;
use super::types::{Class, StoreSpec};
use super::types_payments::{
    CallSpec, CallbackSpec, ChannelPayment, CodeRule, Codes, Locator, Meaning, PaymentSpec, ResolveSpec, RetrySpec,
};
use crate::snapshot::path::normalise;

/// Longest time a payment may be left pending.
const MONTH: Duration = Duration::from_secs(30 * 86_400);
/// What stands for the payment's number.
const HOLE: &str = "{id}";

/// Class, journal and payment of an upstream.
pub(super) type Payments = (Class, Option<String>, Option<PaymentSpec>);

impl Checker<'_, '_> {
    pub(super) fn payments(
        &mut self,
        upstream: &At<UpstreamFile>,
        name: &str,
        stores: &BTreeMap<String, StoreSpec>,
    ) -> Payments {
        let file = &upstream.value;
        let class = file.class;
        let help = || Some("write `class: payment` beside it".to_owned());
        if class != Class::Payment {
            let theirs = [file.journal.as_ref().map(|at| at.at), file.payment.as_ref().map(|at| at.at)];
            for at in theirs.into_iter().flatten() {
                self.wrong_with_help(at, "only an upstream of class `payment` has this", help());
            }
            return (class, None, None);
        }
        let journal = file.journal.as_ref().map(|journal| {
            self.journal(journal, stores);
            journal.value.clone()
        });
        let payment = file.payment.as_ref().map(|payment| self.payment(payment));
        if journal.is_some() && payment.is_none() {
            let help = Some(
                "say at least where a payment's number stands: `payment: {id: {header: idempotency-key}}`".to_owned(),
            );
            self.wrong_with_help(upstream.at, format!("`{name}` has a journal and no `payment`"), help);
        }
        if journal.is_none() {
            let message =
                format!("`{name}` carries payments without a journal: a payment is tried on one channel, once");
            let help = Some("name a store of type `sqlite`: `journal: disk`".to_owned());
            self.warn(upstream.at, message, help);
        }
        (class, journal, payment)
    }

    fn journal(&self, journal: &At<String>, stores: &BTreeMap<String, StoreSpec>) {
        match stores.get(&journal.value) {
            Some(StoreSpec::Sqlite(_) | StoreSpec::Postgres(..)) => (),
            Some(StoreSpec::Memory(_)) => {
                let help = Some("a store of type `sqlite` outlives the process".to_owned());
                self.wrong_with_help(journal.at, "a journal must outlive the process", help);
            }
            None => self.unresolved(journal.at, "store", &journal.value, &self.names("stores")),
        }
    }

    fn payment(&self, payment: &At<PaymentFile>) -> PaymentSpec {
        let file = &payment.value;
        let part = |part: &Option<At<LocatorFile>>| part.as_ref().and_then(|at| self.locator(at));
        PaymentSpec {
            paths: file.paths.iter().filter_map(|path| self.payment_path(path)).collect(),
            id: self.locator(&file.id).unwrap_or(Locator::Json(String::new())),
            amount: part(&file.amount),
            currency: part(&file.currency),
            kind: part(&file.kind),
            frozen: file.frozen.iter().filter_map(|at| self.locator(at)).collect(),
            deadline: self.timeout(&file.deadline, payment.at),
            retry: {
                let retry = &file.retry.value;
                let factor = retry.factor.value;
                if !(1.0..=10.0).contains(&factor) {
                    self.wrong(retry.factor.or(file.retry.or(payment.at)), "must be between 1 and 10");
                }
                let attempts = self.count(&retry.attempts, file.retry.or(payment.at), 1, 10);
                let initial = self.timeout(&retry.initial, file.retry.or(payment.at));
                RetrySpec { attempts: u32::try_from(attempts).unwrap_or(1), initial, factor }
            },
            location: self.location(&file.location, payment.at),
            resolve: {
                let resolve = &file.resolve.value;
                let at = file.resolve.or(payment.at);
                let span = |span| self.span(span, at, Duration::from_millis(1), MONTH);
                ResolveSpec {
                    unit: span(&resolve.unit),
                    deadline: span(&resolve.deadline),
                    hold: span(&resolve.hold),
                    not_found_min_age: span(&resolve.not_found_min_age),
                }
            },
        }
    }

    fn payment_path(&self, path: &At<String>) -> Option<String> {
        let plain = path.value.starts_with('/') && normalise(&path.value).is_ok_and(|normal| normal == path.value);
        if !plain || path.value.contains(['?', '*']) {
            let help = Some("write it as a request has it, as in `/pay/v1/payments`".to_owned());
            self.wrong_with_help(path.at, "not a whole path", help);
            return None;
        }
        Some(path.value.clone())
    }

    /// `payments:` of a route to the upstream of that name.
    pub(super) fn callback(&self, callback: &At<CallbackFile>, to: &str) -> Option<CallbackSpec> {
        let CallbackFile { upstream, id } = &callback.value;
        let said = |name: &str, key: &str| {
            let at = self.tree.at(&["upstreams", name]).and_then(|at| self.tree.child(at, key));
            at.and_then(|at| self.tree.scalar(at)).map(|scalar| scalar.text.as_str())
        };
        let known = self.names("upstreams");
        if !known.contains(&upstream.value.as_str()) {
            self.unresolved(upstream.at, "upstream", &upstream.value, &known);
        } else if said(&upstream.value, "class") != Some("payment") || said(&upstream.value, "journal").is_none() {
            self.wrong(upstream.at, format!("`{}` is no upstream of class `payment` with a journal", upstream.value));
        }
        if known.contains(&to) && said(to, "class") != Some("callback") {
            let help = Some(format!("write `class: callback` at the upstream `{to}`"));
            self.wrong_with_help(callback.at, "callbacks go to an upstream of class `callback`", help);
        }
        Some(CallbackSpec { upstream: upstream.value.clone(), id: self.locator(id)? })
    }

    fn locator(&self, at: &At<LocatorFile>) -> Option<Locator> {
        match (&at.value.header, &at.value.json) {
            (Some(name), None) => match name.value.parse::<HeaderName>() {
                Ok(name) => Some(Locator::Header(name)),
                Err(_) => {
                    self.wrong(name.at, format!("`{}` is no header's name", name.value));
                    None
                }
            },
            (None, Some(pointer)) => self.pointer(pointer).map(Locator::Json),
            (Some(_), Some(_)) | (None, None) => {
                let help = Some("write `{header: idempotency-key}` or `{json: /payment_no}`".to_owned());
                self.wrong_with_help(at.at, "exactly one of `header` and `json` says where it stands", help);
                None
            }
        }
    }

    fn pointer(&self, pointer: &At<String>) -> Option<String> {
        if pointer.value.starts_with('/') {
            return Some(pointer.value.clone());
        }
        let help = Some(format!("write `/{}`", pointer.value));
        self.wrong_with_help(pointer.at, "a JSON pointer begins with `/`", help);
        None
    }

    /// The path in front of the number.
    fn location(&self, location: &At<String>, holder: Id) -> String {
        let prefix = location.value.strip_suffix(HOLE).unwrap_or_default();
        let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.' | '/');
        if !prefix.starts_with('/') || !prefix.ends_with('/') || !prefix.chars().all(plain) || prefix.contains("//") {
            let help = Some("write a path that ends with `/{id}`, as in `/.tidegate/payments/{id}`".to_owned());
            self.wrong_with_help(location.or(holder), "not the path of a status resource", help);
        }
        prefix.to_owned()
    }

    pub(super) fn channel_payment(&mut self, channel: &ChannelFile, class: Class) -> ChannelPayment {
        let ChannelFile { name, idempotent, signature, codes, query, close, .. } = channel;
        if class != Class::Payment {
            let given = [
                (idempotent.at, idempotent.value),
                (signature.as_ref().map_or(Id::ABSENT, |at| at.at), signature.is_some()),
                (codes.as_ref().map_or(Id::ABSENT, |at| at.at), codes.is_some()),
                (query.as_ref().map_or(Id::ABSENT, |at| at.at), query.is_some()),
                (close.as_ref().map_or(Id::ABSENT, |at| at.at), close.is_some()),
            ];
            for (at, _) in given.into_iter().filter(|(_, given)| *given) {
                self.wrong(
                    at,
                    format!("`{}` is no payment channel: its upstream is not of class `payment`", name.value),
                );
            }
        }
        ChannelPayment {
            idempotent: idempotent.value,
            signature: signature.as_ref().and_then(|signature| self.signature(signature)),
            codes: codes.as_ref().map_or_else(Codes::default, |codes| self.codes(codes)),
            query: query.as_ref().and_then(|call| self.call(call, Method::GET)),
            close: close.as_ref().and_then(|call| self.call(call, Method::POST)),
        }
    }

    fn codes(&self, codes: &At<CodesFile>) -> Codes {
        let file = &codes.value;
        let pointer = |at: &At<String>| self.pointer(at).unwrap_or_default();
        Codes {
            code: pointer(&file.code),
            subcode: Some(pointer(&file.subcode)),
            amount: Some(pointer(&file.amount)),
            currency: Some(pointer(&file.currency)),
            id: Some(pointer(&file.id)),
            rules: match &file.map {
                Some(map) => map.value.iter().filter_map(|rule| self.code(rule)).collect(),
                None => Codes::default().rules,
            },
        }
    }

    fn code(&self, rule: &At<CodeFile>) -> Option<CodeRule> {
        let file = &rule.value;
        if file.http.is_none() && file.code.is_none() {
            self.wrong(rule.at, "a rule names `http`, `code` or both");
        }
        if let Some(subcode) = file.subcode.as_ref().filter(|_| file.code.is_none()) {
            self.wrong(subcode.at, "a `subcode` stands below a `code`");
        }
        let http = file.http.as_ref().map(|http| {
            self.count(http, rule.at, 200, 599);
            u16::try_from(http.value).unwrap_or_default()
        });
        let words = Meaning::WORDS;
        let meaning = words.iter().find(|(word, _)| *word == file.class.value);
        let Some((_, meaning)) = meaning else {
            let help = suggest::nearest_or_list(&file.class.value, words.iter().map(|(word, _)| *word));
            self.wrong_with_help(file.class.at, format!("`{}` is no class of an answer", file.class.value), help);
            return None;
        };
        if file.failover.value && *meaning != Meaning::SoftDeclined {
            let help = Some("`not_processed` goes to another channel anyway; nothing else may".to_owned());
            self.wrong_with_help(file.failover.at, "only a `soft_declined` has a choice", help);
        }
        let subcode = file.subcode.as_ref().map(|subcode| subcode.value.clone());
        Some(CodeRule {
            flow: file.flow,
            http,
            code: file.code.clone(),
            subcode,
            meaning: *meaning,
            failover: file.failover.value,
        })
    }

    fn call(&self, call: &At<CallFile>, usual: Method) -> Option<CallSpec> {
        let file = &call.value;
        let known = [Method::GET, Method::POST, Method::PUT, Method::PATCH, Method::DELETE];
        let method = match &file.method {
            None => usual,
            Some(named) => match known.iter().find(|known| known.as_str() == named.value) {
                Some(method) => method.clone(),
                None => {
                    let help = suggest::nearest_or_list(&named.value, known.iter().map(Method::as_str));
                    self.wrong_with_help(named.at, format!("`{}` is no method of a call", named.value), help);
                    usual
                }
            },
        };
        let mut headers = Vec::new();
        for (name, value) in &file.headers.0 {
            match (name.parse::<HeaderName>(), value.value.parse::<HeaderValue>()) {
                (Ok(name), Ok(value)) => headers.push((name, value)),
                _ => self.wrong_key(value.at, format!("`{name}` is no header"), None),
            }
        }
        let path = file.path.value.split_once(HOLE).filter(|(before, behind)| {
            let visible = |text: &str| text.chars().all(|c| c.is_ascii_graphic());
            before.starts_with('/') && !behind.contains(HOLE) && visible(before) && visible(behind)
        });
        let Some((before, behind)) = path else {
            let help = Some("write `{id}` once for the payment's number: `/pay/v1/payments/{id}`".to_owned());
            self.wrong_with_help(file.path.at, "not a path to one payment", help);
            return None;
        };
        let acknowledged_by = file.acknowledged_by.iter().map(|status| {
            self.count(status, call.at, 200, 599);
            u16::try_from(status.value).unwrap_or_default()
        });
        let acknowledged_by = acknowledged_by.collect();
        Some(CallSpec { method, path: (before.to_owned(), behind.to_owned()), headers, acknowledged_by })
    }
}
