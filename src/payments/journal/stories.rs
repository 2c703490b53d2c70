//! Any story of a payment: at most one live try, and nobody is charged twice unseen.

use proptest::prelude::*;
use proptest::sample::select;
use proptest::test_runner::{TestCaseError, TestRunner};

use super::tests::{at, begin, seen};
use super::*;

/// One thing that happens to a payment on channels 0 to 2.
#[derive(Clone, Debug)]
enum Happening {
    /// Closes the try before; true: as one who does not know that it was sent again.
    Begin(u8, Option<(AttemptState, bool)>),
    Settle(AttemptState, bool),
    Told(usize, Report),
    SendAgain,
    GiveUp,
    Decide(PaymentState),
    Crash,
}

fn happening() -> impl Strategy<Value = Happening> {
    use AttemptState as S;
    let ends = [
        S::Succeeded,
        S::DeclinedHard,
        S::DeclinedSoft,
        S::Rejected,
        S::Pending,
        S::Unknown,
        S::NotSent,
        S::NotProcessed,
    ];
    let reports =
        [Report::Succeeded, Report::Pending, Report::DeclinedSoft, Report::Closed, Report::NotFound, Report::Nothing];
    let closing = proptest::option::of((select(vec![S::NotSent, S::NotProcessed, S::DeclinedSoft]), any::<bool>()));
    prop_oneof![
        4 => (0..3_u8, closing).prop_map(|(channel, closing)| Happening::Begin(channel, closing)),
        3 => (select(ends.to_vec()), any::<bool>()).prop_map(|(state, late)| Happening::Settle(state, late)),
        3 => (0..4_usize, select(reports.to_vec())).prop_map(|(at, report)| Happening::Told(at, report)),
        1 => Just(Happening::SendAgain),
        1 => Just(Happening::GiveUp),
        1 => select(vec![PaymentState::Succeeded, PaymentState::Failed]).prop_map(Happening::Decide),
        1 => Just(Happening::Crash),
    ]
}

async fn happen(journal: &Journal, p: &str, happening: &Happening) -> std::result::Result<(), Refusal> {
    let attempts = journal.view(p).await?.map_or_else(Vec::new, |view| view.attempts);
    let last = attempts.last().map_or(0, |attempt| attempt.n);
    let sends = attempts.last().map_or(1, |attempt| attempt.sends);
    let sending = |late: bool| Sending { n: last, sends: if late { sends - 1 } else { sends } };
    match happening {
        Happening::Begin(channel, closing) => {
            let closing = closing.map(|(state, late)| (sending(late), seen(state)));
            journal.begin(Begin { closing, ..begin(p, &format!("c{channel}")) }, 1).await.map(drop)
        }
        Happening::Settle(state, late) => journal.settle(p, sending(*late), seen(*state), 1, 1).await.map(drop),
        Happening::Told(at, report) => {
            let asked = attempts.get(*at).or(attempts.last()).map_or((0, 0), |attempt| (attempt.n, attempt.sends));
            journal.told(p, asked, *report, seen(AttemptState::Unknown), at_any()).await.map(drop)
        }
        Happening::SendAgain => journal.send_again(p, last, 1).await.map(drop),
        Happening::GiveUp => journal.give_up(p, last, "enough", 1).await.map(drop),
        Happening::Decide(state) => journal.decide(p, *state, "asked the bank", 1).await,
        Happening::Crash => Ok(()),
    }
}

fn at_any() -> Schedule {
    at(100_000)
}

/// Invariant: no try on a channel while another's may still charge, whatever happens to payment `p` in whatever order.
async fn tell(story: &[Happening], p: &str, open: impl Fn(i64) -> Journal) -> std::result::Result<(), TestCaseError> {
    let mut journal = open(0);
    for happening in story {
        let before = journal.view(p).await.unwrap();
        if matches!(happening, Happening::Crash) {
            journal = open(1);
        }
        let done = happen(&journal, p, happening).await;
        let Some(after) = journal.view(p).await.unwrap() else { continue };
        let live: Vec<_> = after.attempts.iter().filter(|attempt| attempt.state.is_live()).collect();
        prop_assert!(live.len() <= 1, "{live:?}");
        let charged: Vec<_> = after.attempts.iter().filter(|attempt| attempt.state.has_charged()).collect();
        prop_assert!(charged.is_empty() || after.payment.state == PaymentState::Succeeded, "{after:?}");
        let events = journal.events(p).await.unwrap();
        let alarmed = events.iter().any(|event| event.kind == "DUPLICATE_CHARGE");
        prop_assert!(charged.len() < 2 || alarmed, "two charges and nobody was told: {after:?}");
        if let (Happening::Settle(state, true), Some(before)) = (happening, &before) {
            let charge = *state == AttemptState::Succeeded;
            prop_assert!(charge || after.attempts == before.attempts, "who speaks of an earlier sending moves nothing");
        }
        if let (Happening::Begin(_, closing), Ok(()), Some(before)) = (happening, &done, &before) {
            let dispatching = |attempt: &Attempt| attempt.state == AttemptState::Dispatching;
            let held = before.attempts.iter().any(|attempt| attempt.state.is_live());
            let paid = before.attempts.iter().any(|attempt| attempt.state.has_charged());
            prop_assert!(!paid, "another try of what is paid: {before:?}");
            let freed = closing.is_some_and(|(_, late)| !late) && before.attempts.last().is_some_and(dispatching);
            prop_assert!(!held || freed, "a second channel beside {before:?}");
        }
    }
    Ok(())
}

fn stories() -> impl Strategy<Value = Vec<Happening>> {
    proptest::collection::vec(happening(), 1..24)
}

#[test]
fn one_live_try_at_most_whatever_happens() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let config = ProptestConfig { cases: 48, source_file: Some(file!()), ..ProptestConfig::default() };
    let told = TestRunner::new(config).run(&stories(), |story| {
        let dir = tempfile::tempdir().unwrap();
        let place = Place::File(dir.path().join("payments.db"));
        runtime.block_on(tell(&story, "p", |now_ms| Journal::open(&place, now_ms).unwrap()))
    });
    told.unwrap_or_else(|why| panic!("{why}"));
}

#[cfg(feature = "postgres")]
#[test]
fn one_live_try_at_most_whatever_happens_among_gateways_that_share_a_database() {
    let server = super::shared::Server::start();
    let place = super::shared::place(&server);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let number = std::cell::Cell::new(0);
    let config = ProptestConfig { cases: 32, source_file: Some(file!()), ..ProptestConfig::default() };
    let told = TestRunner::new(config).run(&stories(), |story| {
        number.set(number.get() + 1);
        let id = format!("p{}", number.get());
        runtime.block_on(tell(&story, &id, |now_ms| Journal::open(&place, now_ms).unwrap()))
    });
    told.unwrap_or_else(|why| panic!("{why}"));
}
