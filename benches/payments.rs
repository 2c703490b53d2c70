//! What the journal costs: payments that are written down, sent nowhere, and decided, with one and with 64 at a time.
//! Two durable writes each; the file lies in the folder named by TMPDIR, so its disk is what is measured.

#![allow(clippy::unwrap_used, missing_docs)]

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use tidegate::payments::journal::{AttemptState, Begin, Frozen, Journal, Observed, Place, Sending};
use tidegate::payments::outcome::Money;

static NEXT: AtomicU64 = AtomicU64::new(0);

async fn one(journal: Journal) {
    let id = format!("p{}", NEXT.fetch_add(1, Relaxed));
    let money = Money { amount: Some(100), currency: Some("CNY".to_owned()) };
    let frozen = Frozen { id: id.clone(), upstream: "pay".to_owned(), money, kind: None, fingerprint: "f".repeat(64) };
    let (channel, considered) = ("alipay".to_owned(), "[]".to_owned());
    let begin = Begin { frozen, channel, considered, words: String::new(), closing: None, resting: false };
    let n = journal.begin(begin, 1).await.unwrap();
    let state = AttemptState::Succeeded;
    let seen = Observed { state, evidence: "answered 200 SUCCESS".to_owned(), http: Some(200), code: None };
    journal.settle(&id, Sending::first(n), seen, 2, 3).await.unwrap();
}

fn journal(c: &mut Criterion) {
    let dir = tempfile::tempdir().unwrap();
    let journal = Journal::open(&Place::File(dir.path().join("payments.db")), 0).unwrap();
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).build().unwrap();
    let mut group = c.benchmark_group("payments/journal");
    for clients in [1_u64, 64] {
        group.throughput(Throughput::Elements(clients));
        group.bench_function(format!("{clients} at a time"), |b| {
            b.iter(|| {
                runtime.block_on(async {
                    let all: Vec<_> = (0..clients).map(|_| tokio::spawn(one(journal.clone()))).collect();
                    for one in all {
                        one.await.unwrap();
                    }
                });
            });
        });
    }
    group.finish();
}

criterion_group!(benches, journal);
criterion_main!(benches);
