//! Channels: which could be chosen now, why not the others, and how their latest tries went.

use std::net::{IpAddr, Ipv4Addr};

use axum::Json;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use serde_json::{Value, json};
use tidegate_filters::channels::{ChannelFacts, UpstreamFacts};
use tidegate_filters::engine::RequestContext;

use super::AdminState;
use super::breakers::{in_use, milliseconds};

/// All channels, as a request of unknown type and amount would find them.
pub(super) async fn show(State(state): State<AdminState>) -> Response {
    let clock = &state.gateway.shared.clock;
    let mut cx = RequestContext::new(clock.now(), IpAddr::V4(Ipv4Addr::UNSPECIFIED));
    cx.wall = clock.unix(cx.now);
    let breakers = in_use(&state);
    let mut all = Vec::new();
    for upstream in &state.gateway.snapshot().upstreams {
        for channel in &upstream.facts.channels {
            let mine = breakers.iter().filter(|guarded| {
                let [_, of, at] = guarded.names();
                *of == *upstream.name && *at == *channel.name
            });
            let states: Vec<_> = mine
                .map(|guarded| json!({ "filter": guarded.names()[0], "state": guarded.breaker().phase().as_str() }))
                .collect();
            all.push(view(&upstream.facts, channel, states, &cx));
        }
    }
    Json(json!({ "channels": all })).into_response()
}

fn view(upstream: &UpstreamFacts, channel: &ChannelFacts, breakers: Vec<Value>, cx: &RequestContext) -> Value {
    let figures = channel.state.record.figures(cx.now);
    let healthy = channel.is_healthy();
    let ruled_out = channel.ruled_out(cx).map(|(why, _)| why.as_str());
    let why = ruled_out.or((!healthy && !upstream.panics()).then_some("unhealthy"));
    let endpoints: Vec<Value> = channel
        .endpoints
        .iter()
        .map(|endpoint| json!({ "address": &*endpoint.address, "healthy": endpoint.is_in() }))
        .collect();
    json!({
        "upstream": &*upstream.name,
        "channel": &*channel.name,
        "weight": channel.weight,
        "backup": channel.backup,
        "eligible": why.is_none(),
        "why_not": why,
        "healthy": healthy,
        "health_ignored": upstream.panics(),
        "endpoints": endpoints,
        "breakers": breakers,
        "success_rate": figures.success_rate(),
        "samples": figures.samples,
        "latency_ms": figures.latency.map(milliseconds),
        "in_flight": channel.state.in_flight(),
    })
}
