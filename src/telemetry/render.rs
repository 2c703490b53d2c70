//! The metrics page, in Prometheus' text format 0.0.4. Every metric's name stands here or in a filter's `samples`.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::atomic::Ordering::Relaxed;

use tidegate_filters::engine::{Sample, SampleKind};

use super::Telemetry;
use super::histogram::BOUNDS_US;
use super::metrics::Counts;
use super::process;
use super::route_metrics::{ChannelMetrics, METHODS, STATUSES};
use crate::gateway::Gateway;
use crate::snapshot::Snapshot;

/// Series on one page; more would be somebody's mistake, and Prometheus' memory pays for it.
const MOST_SERIES: usize = 10_000;

/// Series by metric.
#[derive(Default)]
struct Page {
    metrics: BTreeMap<&'static str, (&'static str, &'static str, String)>,
    series: usize,
    dropped: u64,
}

impl Page {
    fn put(
        &mut self,
        metric: (&'static str, &'static str, &'static str),
        suffix: &str,
        labels: &[(&str, &str)],
        value: f64,
    ) {
        if self.series >= MOST_SERIES {
            self.dropped += 1;
            return;
        }
        self.series += 1;
        let (name, help, kind) = metric;
        let (_, _, lines) = self.metrics.entry(name).or_insert((help, kind, String::new()));
        // Writing into memory cannot fail.
        let _ = write!(lines, "{name}{suffix}");
        for (at, (label, text)) in labels.iter().enumerate() {
            let text = text.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n");
            let _ = write!(lines, "{}{label}=\"{text}\"", if at == 0 { '{' } else { ',' });
        }
        let _ = writeln!(lines, "{} {value}", if labels.is_empty() { "" } else { "}" });
    }

    fn sample(&mut self, sample: &Sample) {
        let labels: Vec<(&str, &str)> = sample.labels.iter().map(|(name, value)| (*name, value.as_str())).collect();
        let kind = match sample.kind {
            SampleKind::Counter => "counter",
            SampleKind::Gauge => "gauge",
        };
        self.put((sample.name, sample.help, kind), "", &labels, sample.value);
    }

    fn text(self) -> String {
        let mut out = String::new();
        for (name, (help, kind, lines)) in self.metrics {
            let _ = write!(out, "# HELP {name} {help}\n# TYPE {name} {kind}\n{lines}");
        }
        out
    }
}

#[expect(clippy::cast_precision_loss, reason = "a metric is a double by definition")]
fn double(value: u64) -> f64 {
    value as f64
}

impl Telemetry {
    /// The metrics page.
    #[must_use]
    pub fn render(&self, gateway: &Gateway) -> String {
        let snapshot = gateway.snapshot();
        let mut page = Page::default();
        self.process(&mut page);
        self.doors(&mut page, &snapshot);
        self.reloads(&mut page);
        routes(&mut page, &snapshot);
        channels(&mut page, &snapshot);
        let mut samples = Vec::new();
        gateway.shared.states.samples(&mut samples);
        samples.iter().for_each(|sample| page.sample(sample));
        let dropped = double(page.dropped);
        // The one series that must not be dropped.
        page.series = 0;
        let about = ("tidegate_metrics_dropped_series", "Series left out of this page for their number.", "gauge");
        page.put(about, "", &[], dropped);
        page.text()
    }

    fn process(&self, page: &mut Page) {
        let about = ("tidegate_build_info", "Version of this binary.", "gauge");
        let commit = option_env!("TIDEGATE_COMMIT").unwrap_or("unknown");
        page.put(about, "", &[("version", env!("CARGO_PKG_VERSION")), ("commit", commit)], 1.0);
        let (resident, fds, cpu) = process::figures();
        page.put(("tidegate_process_resident_memory_bytes", "Resident memory.", "gauge"), "", &[], resident);
        page.put(("tidegate_process_open_fds", "Open file descriptors.", "gauge"), "", &[], fds);
        page.put(("tidegate_process_cpu_seconds_total", "User and system CPU time.", "counter"), "", &[], cpu);
        let about =
            ("tidegate_access_log_dropped_total", "Request lines dropped because the log did not keep up.", "counter");
        page.put(about, "", &[], double(self.access.dropped()));
    }

    fn doors(&self, page: &mut Page, snapshot: &Snapshot) {
        let about = ("tidegate_connections", "Open client connections.", "gauge");
        for (number, listener) in snapshot.config.server.listeners.iter().enumerate() {
            let open = u64::try_from(self.metrics.connections(number)).unwrap_or(0);
            page.put(about, "", &[("listener", &listener.name)], double(open));
        }
        let about =
            ("tidegate_connections_refused_total", "Connections turned away, by the bound they hit.", "counter");
        counts(page, about, "bound", &self.metrics.refused_connections);
        let about = ("tidegate_door_refusals_total", "Heads refused before they were requests, by reason.", "counter");
        counts(page, about, "reason", &self.metrics.door_refusals);
    }

    fn reloads(&self, page: &mut Page) {
        let about = ("tidegate_config_reloads_total", "Reloads by result and by what caused them.", "counter");
        for ((result, source), count) in &*self.metrics.reloads.lock() {
            page.put(about, "", &[("result", result), ("source", source)], double(*count));
        }
        let about = ("tidegate_config_state_actions_total", "What reloads did with filters' states.", "counter");
        counts(page, about, "action", &self.metrics.state_actions);
        let about = ("tidegate_watch_events_total", "Events of watched files.", "counter");
        counts(page, about, "kind", &self.metrics.watch_events);
        let state = self.metrics.reload.lock().clone();
        let about = ("tidegate_config_last_reload_successful", "1 when the last reload took effect, else 0.", "gauge");
        page.put(about, "", &[], f64::from(u8::from(state.successful)));
        let about =
            ("tidegate_config_last_reload_success_timestamp_seconds", "When the running file took effect.", "gauge");
        page.put(about, "", &[], state.success_unix);
        let about = ("tidegate_config_version_info", "The running configuration.", "gauge");
        page.put(about, "", &[("version", &state.generation.to_string()), ("hash", &state.hash)], 1.0);
    }
}

fn counts<K: AsRef<str> + Ord>(
    page: &mut Page,
    about: (&'static str, &'static str, &'static str),
    label: &str,
    counts: &Counts<K>,
) {
    for (key, count) in &*counts.lock() {
        page.put(about, "", &[(label, key.as_ref())], double(*count));
    }
}

/// Only routes of the running configuration: a route that is gone has no series.
fn routes(page: &mut Page, snapshot: &Snapshot) {
    let requests = ("tidegate_requests_total", "Requests by route, method and status.", "counter");
    let in_flight = ("tidegate_requests_in_flight", "Requests running now.", "gauge");
    for route in &snapshot.routes {
        let metrics = &route.metrics;
        for (code, row) in STATUSES.zip(&metrics.requests) {
            for (method, count) in METHODS.iter().zip(row) {
                let count = count.load(Relaxed);
                if count > 0 {
                    let labels = [("route", &*metrics.route), ("method", method), ("code", &code.to_string())];
                    page.put(requests, "", &labels, double(count));
                }
            }
        }
        let running = u64::try_from(metrics.in_flight.load(Relaxed)).unwrap_or(0);
        page.put(in_flight, "", &[("route", &metrics.route)], double(running));
        duration(page, metrics);
    }
}

/// Channels of the running configuration.
fn channels(page: &mut Page, snapshot: &Snapshot) {
    let requests = ("tidegate_channel_requests_total", "Tries on channels by result.", "counter");
    let healthy = ("tidegate_channel_healthy", "1 while an endpoint of the channel answers probes, else 0.", "gauge");
    let weight = ("tidegate_channel_weight", "Share of the channel as configured.", "gauge");
    let in_flight = ("tidegate_channel_in_flight", "Requests on the channel now.", "gauge");
    for upstream in &snapshot.upstreams {
        for (channel, facts) in upstream.channels.iter().zip(&upstream.facts.channels) {
            let labels = [("upstream", &*upstream.name), ("channel", &*channel.name)];
            for (result, count) in ChannelMetrics::RESULTS.iter().zip(&channel.metrics.results) {
                let labels = [labels[0], labels[1], ("result", result)];
                page.put(requests, "", &labels, double(count.load(Relaxed)));
            }
            page.put(healthy, "", &labels, f64::from(u8::from(facts.is_healthy())));
            page.put(weight, "", &labels, f64::from(facts.weight));
            page.put(in_flight, "", &labels, double(u64::try_from(facts.state.in_flight()).unwrap_or(0)));
        }
    }
}

fn duration(page: &mut Page, metrics: &super::RouteMetrics) {
    let about =
        ("tidegate_request_duration_seconds", "From the head's last byte to the end of the answer.", "histogram");
    let (cumulative, sum) = metrics.duration.read();
    let total = cumulative[BOUNDS_US.len()];
    if total == 0 {
        return;
    }
    for (bound, count) in BOUNDS_US.iter().zip(cumulative) {
        let bound = (double(*bound) / 1e6).to_string();
        page.put(about, "_bucket", &[("route", &metrics.route), ("le", &bound)], double(count));
    }
    page.put(about, "_bucket", &[("route", &metrics.route), ("le", "+Inf")], double(total));
    page.put(about, "_sum", &[("route", &metrics.route)], sum);
    page.put(about, "_count", &[("route", &metrics.route)], double(total));
}
