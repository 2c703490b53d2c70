//! A try at an upstream that is no payment's.
//!
//! What is known about the wire decides, as everywhere: a request that no byte of left, or that was refused with 425 or
//! 429, was surely not carried out. 408, a 5xx, silence and a broken connection say nothing of the sort. Every other status
//! is the answer.

use std::time::Duration;

use http::{HeaderMap, header};
use tidegate_filters::respond_async::core::Verdict;

use super::keep;
use super::worker::{Ending, HOLD};
use crate::payments::outcome::{Class, Seen, of_wire};
use crate::payments::wire::{Answer, Request, Target, Wire};
use crate::proxy::attempt;
use crate::proxy::flow::Flow;
use crate::snapshot::Route;

/// The longest wait that an upstream may ask for.
const LONGEST_WAIT: Duration = Duration::from_secs(600);

pub(super) async fn send(wire: &Wire, flow: &mut Flow, route: &Route, request: &Request, most: usize) -> Ending {
    loop {
        let endpoint = match attempt::pick(flow, route) {
            Ok(endpoint) => endpoint,
            Err(_) => {
                let reply = flow.reply.take();
                let wait = reply.as_ref().and_then(|reply| reply.retry_after).unwrap_or(HOLD);
                return Ending::postponed(wait, "no channel may be asked now");
            }
        };
        let target = flow.channel().and_then(|channel| {
            let known = route.upstream.facts.channel(flow.cx.channel?)?.endpoints.get(endpoint)?;
            let tls = channel.tls.get(endpoint).cloned();
            Target::of(channel.peers.get(endpoint)?, &known.address, route.upstream.h2, tls)
        });
        let Some(target) = target else { return Ending::postponed(HOLD, "the channel has no address") };
        let fault = match wire.call(&target, request, most).await {
            Ok(answer) => {
                attempt::answered(flow, answer.status);
                return judge(flow, answer);
            }
            Err(fault) => fault,
        };
        match of_wire(fault.seen) {
            Class::NotSent if attempt::connect_failed(flow) => (),
            Class::NotSent | Class::NotProcessed => {
                return Ending::of(Verdict::Nothing { wait: None }, fault.evidence);
            }
            _ => {
                attempt::failed(flow, matches!(fault.seen, Seen::Silent { .. }));
                return Ending::of(Verdict::Unknown, fault.evidence);
            }
        }
    }
}

fn judge(flow: &mut Flow, answer: Answer) -> Ending {
    let status = answer.status;
    let said = format!("answered {}", status.as_u16());
    let ending = match status.as_u16() {
        425 | 429 => Ending::of(Verdict::Nothing { wait: retry_after(&answer.headers) }, said),
        408 | 500..=599 => Ending::of(Verdict::Unknown, said),
        _ => Ending { answer: Some(keep::of_upstream(flow, answer)), ..Ending::of(Verdict::Answered, said) },
    };
    Ending { status: status.as_u16(), ..ending }
}

/// How long an upstream asks to be left alone.
pub(super) fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    let seconds = headers.get(header::RETRY_AFTER)?.to_str().ok()?.trim().parse().ok()?;
    Some(Duration::from_secs(seconds).min(LONGEST_WAIT))
}
