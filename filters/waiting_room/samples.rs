//! What metrics show of a room.

use std::sync::atomic::Ordering::Relaxed;

use super::room::Room;
use crate::engine::{Sample, SampleKind, State};

impl State for Room {
    fn samples(&self, out: &mut Vec<Sample>) {
        let outlook = self.outlook_now();
        let mut add = |name, help, kind, value: f64| {
            out.push(Sample { name, help, kind, labels: vec![("room", self.name().to_string())], value });
        };
        let gauges = [
            ("tidegate_waiting_room_queued", "Waiters that are present.", outlook.waiting as f64),
            ("tidegate_waiting_room_active", "Visits.", outlook.active as f64),
            ("tidegate_waiting_room_ready", "Open turns.", outlook.ready as f64),
            ("tidegate_waiting_room_frontier", "Turns have come up to this number.", outlook.frontier as f64),
            ("tidegate_waiting_room_tail", "The highest number given.", outlook.tail as f64),
            ("tidegate_waiting_room_rate_per_minute", "Admissions of the last minute.", outlook.last_minute as f64),
            ("tidegate_waiting_room_degraded", "Whether the journal cannot be written.", f64::from(self.is_degraded())),
        ];
        for (name, help, value) in gauges {
            add(name, help, SampleKind::Gauge, value);
        }
        if let Some((rate, _)) = self.backends() {
            let help = "Admissions a minute that the backends allow.";
            add("tidegate_waiting_room_backend_rate_per_minute", help, SampleKind::Gauge, f64::from(rate));
        }
        let counts = &self.counts;
        let counters = [
            ("tidegate_waiting_room_joins_total", "Numbers given.", &counts.joined),
            ("tidegate_waiting_room_admitted_total", "Admissions.", &counts.admitted),
            ("tidegate_waiting_room_bypassed_total", "Requests that were not held up.", &counts.bypassed),
            ("tidegate_waiting_room_revoked_total", "Visits ended before their time.", &counts.ended),
            ("tidegate_waiting_room_store_errors_total", "Lines that could not be written.", &counts.unwritten),
        ];
        for (name, help, counter) in counters {
            add(name, help, SampleKind::Counter, counter.load(Relaxed) as f64);
        }
        self.more_samples(out);
    }
}
