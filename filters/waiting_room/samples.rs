//! What metrics show of a room.

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

use super::line::Reason;
use super::room::Room;
use crate::engine::{Sample, SampleKind, State};

/// Collects samples of one room.
struct Out<'a> {
    room: &'a str,
    all: &'a mut Vec<Sample>,
}

impl Out<'_> {
    fn gauge(&mut self, name: &'static str, help: &'static str, value: f64) {
        self.add((name, help, SampleKind::Gauge), None, value);
    }

    fn counter(&mut self, name: &'static str, help: &'static str, value: u64) {
        self.add((name, help, SampleKind::Counter), None, value as f64);
    }

    fn add(
        &mut self,
        (name, help, kind): (&'static str, &'static str, SampleKind),
        label: Option<(&'static str, &str)>,
        value: f64,
    ) {
        let more = label.map(|(name, value)| (name, value.to_owned()));
        let labels = [("room", self.room.to_owned())].into_iter().chain(more).collect();
        self.all.push(Sample { name, help, kind, labels, value });
    }
}

impl State for Room {
    fn samples(&self, all: &mut Vec<Sample>) {
        let name: Arc<str> = self.name().clone();
        let mut out = Out { room: &name, all };
        self.standing(&mut out);
        self.events(&mut out);
        self.refusals(&mut out);
    }
}

impl Room {
    /// How things stand.
    fn standing(&self, out: &mut Out<'_>) {
        let outlook = self.outlook_now();
        out.gauge("tidegate_waiting_room_queued", "Waiters that are present.", outlook.waiting as f64);
        out.gauge("tidegate_waiting_room_active", "Visits.", outlook.active as f64);
        out.gauge("tidegate_waiting_room_ready", "Open turns.", outlook.ready as f64);
        let (frontier, tail) = (outlook.frontier as f64, outlook.tail as f64);
        out.gauge("tidegate_waiting_room_frontier", "Turns have come up to this number.", frontier);
        out.gauge("tidegate_waiting_room_tail", "The highest number given.", tail);
        let minute = outlook.last_minute as f64;
        out.gauge("tidegate_waiting_room_rate_per_minute", "Admissions of the last minute.", minute);
        let degraded = f64::from(self.is_degraded());
        out.gauge("tidegate_waiting_room_degraded", "Whether the journal cannot be written.", degraded);
        let lag = self.public.lag.load(Relaxed) as f64 / 1_000.0;
        out.gauge("tidegate_waiting_room_tick_lag_seconds", "How late the last tick was.", lag);
        let listeners = self.listeners() as f64;
        out.gauge("tidegate_waiting_room_sse_connections", "Open streams of events.", listeners);
        let polls = self.long_polls() as f64;
        out.gauge("tidegate_waiting_room_long_polls", "Looks that wait for news.", polls);
        if let Some((rate, _)) = self.backends() {
            let help = "Admissions a minute that the backends allow.";
            out.gauge("tidegate_waiting_room_backend_rate_per_minute", help, f64::from(rate));
        }
        if let Some(stock) = outlook.stock {
            out.gauge("tidegate_waiting_room_stock", "Pieces that the backend says are left.", stock as f64);
        }
        if let Some(ratio) = outlook.proof.no_show_ratio() {
            let help = "Share of turns that nobody took, of about the last hundred.";
            out.gauge("tidegate_waiting_room_no_show_ratio", help, ratio);
        }
        if let Some(wait) = outlook.estimate(outlook.waiting) {
            let what = ("tidegate_waiting_room_eta_seconds", "Wait of somebody who comes now.", SampleKind::Gauge);
            out.add(what, Some(("quantile", "0.5")), wait.p50);
            out.add(what, Some(("quantile", "0.9")), wait.p90);
        }
    }

    /// What happened since the process began.
    fn events(&self, out: &mut Out<'_>) {
        let (outlook, counts) = (self.outlook_now(), &self.counts);
        let counters = [
            ("tidegate_waiting_room_joins_total", "Numbers given.", counts.joined.load(Relaxed)),
            ("tidegate_waiting_room_admitted_total", "Admissions.", counts.admitted.load(Relaxed)),
            ("tidegate_waiting_room_missed_total", "Turns that nobody took.", outlook.missed),
            ("tidegate_waiting_room_poll_too_soon_total", "Looks that came too soon.", counts.too_soon.load(Relaxed)),
            ("tidegate_waiting_room_revoked_total", "Visits ended before their time.", counts.ended.load(Relaxed)),
            (
                "tidegate_waiting_room_store_errors_total",
                "Lines that could not be written.",
                counts.unwritten.load(Relaxed),
            ),
            (
                "tidegate_waiting_room_fifo_inversions_total",
                "Turns told to a number below one that had its turn already; 0 unless something is wrong.",
                outlook.proof.inversions,
            ),
            (
                "tidegate_waiting_room_overshoot_total",
                "Places given beyond the limits that held then; 0 unless something is wrong.",
                outlook.proof.overshoot,
            ),
        ];
        for (name, help, value) in counters {
            out.counter(name, help, value);
        }
    }

    /// Who was not let in, who was not held up, and who left.
    fn refusals(&self, out: &mut Out<'_>) {
        let counts = &self.counts;
        let rejected = ("tidegate_waiting_room_rejected_total", "Visitors who got no place.", SampleKind::Counter);
        for reason in Reason::ALL {
            let count = counts.rejected[reason.index()].load(Relaxed) as f64;
            out.add(rejected, Some(("reason", reason.as_str())), count);
        }
        let bypassed = ("tidegate_waiting_room_bypassed_total", "Requests that were not held up.", SampleKind::Counter);
        for (rule, count) in self.bypassed.all() {
            out.add(bypassed, Some(("rule", &rule)), count as f64);
        }
        let help = "Visitors who said that they leave, or were silent when their turn came.";
        let abandoned = ("tidegate_waiting_room_abandoned_total", help, SampleKind::Counter);
        out.add(abandoned, Some(("how", "said")), counts.left.load(Relaxed) as f64);
        out.add(abandoned, Some(("how", "silent")), self.outlook_now().proof.silent as f64);
    }
}
