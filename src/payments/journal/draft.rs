//! A payment while one operation changes it: what was read, what is to be written of it.
//!
//! The operations know nothing of statements, so that every kind of store follows the same rules. A draft lives inside one
//! transaction that nobody else changes the payment in.

use super::model::{Attempt, AttemptState, Event, Frozen, Observed, Payment, PaymentState, Refusal, Sending, View};

/// Most characters of what was observed.
const LONGEST_TEXT: usize = 2_000;

type Result<T> = std::result::Result<T, Refusal>;

/// A payment as it will stand.
#[derive(Debug)]
pub(super) struct Draft {
    id: String,
    view: Option<View>,
    /// The payment's row is new.
    pub(super) is_new: bool,
    /// The payment's row has changed.
    pub(super) moved: bool,
    /// Tries whose rows have changed.
    pub(super) changed: Vec<i64>,
    /// The try whose row is new.
    pub(super) added: Option<i64>,
    /// What a person should see.
    pub(super) events: Vec<Event>,
}

impl Draft {
    /// As it was found.
    pub(super) fn of(id: &str, view: Option<View>) -> Self {
        let (changed, events) = (Vec::new(), Vec::new());
        Self { id: id.to_owned(), view, is_new: false, moved: false, changed, added: None, events }
    }

    /// The payment's number.
    pub(super) fn id(&self) -> &str {
        &self.id
    }

    /// How the payment stands now; `None` before there is one.
    pub(super) fn found(&self) -> Option<&View> {
        self.view.as_ref()
    }

    /// How the payment stands now.
    pub(super) fn view(&self) -> Result<&View> {
        self.view.as_ref().ok_or(Refusal::Missing)
    }

    /// One of its tries.
    pub(super) fn attempt(&self, n: i64) -> Result<&Attempt> {
        self.view()?.attempts.iter().find(|attempt| attempt.n == n).ok_or(Refusal::Missing)
    }

    /// The tries that are to be written, the oldest first: one must be closed before the next can be live.
    pub(super) fn written(&self) -> impl Iterator<Item = &Attempt> {
        let attempts = self.view.iter().flat_map(|view| &view.attempts);
        attempts.filter(|attempt| self.changed.contains(&attempt.n) || self.added == Some(attempt.n))
    }

    /// Begins the payment.
    pub(super) fn insert(&mut self, frozen: &Frozen, now_ms: i64) {
        let state = PaymentState::Processing;
        let payment = Payment { frozen: frozen.clone(), state, created_ms: now_ms, updated_ms: now_ms };
        self.view = Some(View { payment, attempts: Vec::new() });
        self.is_new = true;
    }

    /// Moves the payment.
    pub(super) fn set_payment(&mut self, state: PaymentState, now_ms: i64) -> Result<()> {
        let payment = &mut self.view.as_mut().ok_or(Refusal::Missing)?.payment;
        (payment.state, payment.updated_ms) = (state, now_ms);
        self.moved = true;
        Ok(())
    }

    /// A new try that is about to be sent.
    pub(super) fn add(
        &mut self,
        (channel, considered, words): (&str, &str, &str),
        now_ms: i64,
        next_ms: i64,
    ) -> Result<i64> {
        let view = self.view.as_mut().ok_or(Refusal::Missing)?;
        let n = view.attempts.last().map_or(0, |last| last.n) + 1;
        view.attempts.push(Attempt {
            payment_id: self.id.clone(),
            n,
            channel: channel.to_owned(),
            number: self.id.clone(),
            state: AttemptState::Dispatching,
            evidence: words.to_owned(),
            http: None,
            code: None,
            considered: considered.to_owned(),
            sends: 1,
            created_ms: now_ms,
            sent_ms: now_ms,
            updated_ms: now_ms,
            tries: 0,
            not_found: 0,
            next_ms,
        });
        self.added = Some(n);
        Ok(n)
    }

    /// Moves a try and notes why.
    pub(super) fn observe(&mut self, n: i64, seen: &Observed, now_ms: i64, next_ms: i64) -> Result<()> {
        let Observed { state, evidence, http, code } = seen;
        let (state, http, evidence, code) = (*state, *http, plain(evidence), code.as_deref().map(plain));
        self.change(n, |attempt| {
            *attempt = Attempt { state, evidence, http, code, updated_ms: now_ms, next_ms, ..attempt.clone() };
        })
    }

    /// The try is about to be sent once more; what the channel did not know so far proves nothing about that.
    pub(super) fn send_again(&mut self, n: i64, now_ms: i64, next_ms: i64) -> Result<Sending> {
        self.change(n, |attempt| {
            attempt.state = AttemptState::Dispatching;
            attempt.sends += 1;
            (attempt.sent_ms, attempt.updated_ms, attempt.next_ms) = (now_ms, now_ms, next_ms);
            (attempt.not_found, attempt.tries) = (0, 0);
        })?;
        Ok(Sending { n, sends: self.attempt(n)?.sends })
    }

    /// When the resolver looks at a try next, and in how many of the last queries the channel did not know it.
    pub(super) fn look_again(&mut self, n: i64, not_found: i64, next_ms: i64) -> Result<()> {
        self.change(n, |attempt| (attempt.not_found, attempt.next_ms) = (not_found, next_ms))
    }

    /// Something that a person should see.
    pub(super) fn note(&mut self, kind: &str, detail: String, now_ms: i64) {
        self.events.push(Event { kind: kind.to_owned(), detail: plain(&detail), at_ms: now_ms });
    }

    /// One of its tries, as the one who sent it so may speak of it.
    pub(super) fn sending(&self, of: Sending) -> Result<&Attempt> {
        self.attempt(of.n)
            .and_then(|attempt| if attempt.sends == of.sends { Ok(attempt) } else { Err(Refusal::Standing) })
    }

    fn change(&mut self, n: i64, with: impl FnOnce(&mut Attempt)) -> Result<()> {
        let attempts = &mut self.view.as_mut().ok_or(Refusal::Missing)?.attempts;
        with(attempts.iter_mut().find(|attempt| attempt.n == n).ok_or(Refusal::Missing)?);
        if !self.changed.contains(&n) && self.added != Some(n) {
            self.changed.push(n);
        }
        Ok(())
    }
}

/// Texts that come from channels and people, as every store takes them: a database refuses NUL, and nobody wants more than
/// so much of it.
fn plain(text: &str) -> String {
    text.chars().map(|each| if each.is_control() { ' ' } else { each }).take(LONGEST_TEXT).collect()
}
