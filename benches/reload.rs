//! What a reload of a large file costs: reading and checking it, compiling it, swapping it in.

#![allow(clippy::unwrap_used)]

use std::fmt::Write as _;
use std::hint::black_box;
use std::path::Path;
use std::sync::Arc;

use criterion::{Criterion, criterion_group, criterion_main};
use tidegate::config::{Loaded, load_text};
use tidegate::gateway::{Clock, Gateway, Shared};
use tidegate::snapshot;
use tidegate::telemetry::{AccessLogTarget, Telemetry};
use tidegate_filters::engine::{KeyHasher, Kinds, StateRegistry};

/// A file with so many routes, and a filter for every ten of them.
fn text(routes: usize) -> String {
    let mut text = String::from(
        "version: 1
server: {listeners: [{name: public, address: \"127.0.0.1:8080\", protocols: [h1]}]}
upstreams: {origin: {channels: [{name: origin, endpoints: [\"127.0.0.1:7001\"]}]}}
filters:
",
    );
    for number in 0..routes.div_ceil(10) {
        let policies = "[{name: user, key: client, rate: 100/10m}, {name: api, key: route, rate: 1000/s}]";
        writeln!(text, "  limits-{number}: {{rate_limit: {{policies: {policies}}}}}").unwrap();
    }
    text.push_str("routes:\n");
    for number in 0..routes {
        let filter = number / 10;
        writeln!(
            text,
            "  - {{name: route-{number}, match: {{path: \"/api/v{number}/**\"}}, filters: [limits-{filter}], upstream: origin}}"
        )
        .unwrap();
    }
    text
}

fn load(text: &str) -> Loaded {
    load_text(text, "bench", Path::new(""), &Kinds::builtin(), &|_| None).unwrap()
}

fn reload(c: &mut Criterion) {
    let shared = Arc::new(Shared {
        states: StateRegistry::new(),
        hasher: KeyHasher::random(),
        clock: Clock::start(),
        telemetry: Telemetry::new(AccessLogTarget::Off).unwrap(),
        payments: tidegate::payments::Payments::default(),
        deferred: tidegate::deferred::Worker::default(),
    });
    let text = text(1_000);
    let loaded = load(&text);
    let mut group = c.benchmark_group("1000 routes");
    group.sample_size(20);
    group.bench_function("read and check", |bench| bench.iter(|| load(black_box(&text))));
    group.bench_function("compile", |bench| bench.iter(|| snapshot::build(black_box(&loaded), 2, &shared).unwrap()));
    let one = Arc::new(snapshot::build(&loaded, 1, &shared).unwrap());
    let other = Arc::new(snapshot::build(&loaded, 2, &shared).unwrap());
    let gateway = Gateway::new(shared.clone(), one.clone());
    group.bench_function("swap", |bench| {
        bench.iter(|| {
            gateway.swap(other.clone());
            gateway.swap(one.clone())
        });
    });
    group.finish();
}

criterion_group!(benches, reload);
criterion_main!(benches);
