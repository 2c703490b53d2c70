//! Channels on made-up times.

use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::time::Duration;

use http::StatusCode;

use super::*;
use crate::engine::{AttemptEnd, AttemptResult, Known, Nanos, RequestContext};

const SECOND: u64 = 1_000_000_000;

fn context(now: u64, wall: u64) -> RequestContext {
    let mut cx = RequestContext::new(Nanos(now), IpAddr::V4(Ipv4Addr::LOCALHOST));
    cx.wall = Duration::from_secs(wall);
    cx
}

fn open(name: &str) -> ChannelFacts {
    ChannelFacts::open(name.into(), Arc::new(ChannelState::new()))
}

fn upstream(channels: Vec<ChannelFacts>) -> UpstreamFacts {
    UpstreamFacts::new(UpstreamId(0), "pay".into(), channels)
}

/// 2026-03-28 in UTC, so many minutes after midnight.
fn day(minutes: u64) -> Duration {
    Duration::from_secs(1_774_656_000 + minutes * 60)
}

#[test]
fn hours_are_those_of_their_zone() {
    let hours: Hours = "00:30-23:30 Asia/Shanghai".parse().unwrap();
    // Shanghai is eight hours ahead.
    for (minutes, closed_for) in
        [(15 * 60 + 29, None), (15 * 60 + 30, Some(60)), (16 * 60 + 29, Some(1)), (16 * 60 + 30, None)]
    {
        assert_eq!(hours.closed_for(day(minutes)), closed_for.map(|wait| Duration::from_secs(wait * 60)), "{minutes}");
    }
    let almost = day(15 * 60 + 30) + Duration::from_millis(250);
    assert_eq!(hours.closed_for(almost), Some(Duration::from_millis(3_599_750)));
}

#[test]
fn a_window_may_go_over_midnight_and_there_may_be_several() {
    let hours: Hours = "09:00-12:00, 22:00-02:00 UTC".parse().unwrap();
    for (minutes, is_open) in
        [(0, true), (119, true), (120, false), (540, true), (720, false), (1_319, false), (1_320, true)]
    {
        assert_eq!(hours.closed_for(day(minutes)).is_none(), is_open, "{minutes}");
    }
    assert_eq!(hours.closed_for(day(120)), Some(Duration::from_secs(7 * 3_600)));
    assert!("00:00-24:00 UTC".parse::<Hours>().unwrap().closed_for(day(1_439)).is_none());
}

#[test]
fn the_local_clock_decides_when_it_is_put_forward() {
    let hours: Hours = "08:00-20:00 Europe/Berlin".parse().unwrap();
    // The night before 29 March 2026, Berlin goes from one hour ahead to two.
    assert!(hours.closed_for(day(7 * 60)).is_none());
    assert!(hours.closed_for(day(24 * 60 + 6 * 60)).is_none());
    assert!(hours.closed_for(day(6 * 60)).is_some());
}

#[test]
fn hours_and_costs_that_mean_nothing_are_refused_with_advice() {
    for text in [
        "",
        "UTC",
        "00:30-23:30",
        "25:00-26:00 UTC",
        "9-12 UTC",
        "09:00-09:00 UTC",
        "24:00-01:00 UTC",
        "09:00-12:00 Mars/Base",
    ] {
        assert!(text.parse::<Hours>().is_err(), "{text}");
    }
    assert!("00:30-23:30".parse::<Hours>().unwrap_err().contains("Asia/Shanghai"));
    for text in ["", "0.6", "0.605%", "-1%", "101%", "0.6% +", "+ 3", "a"] {
        assert!(text.parse::<Cost>().is_err(), "{text}");
    }
    let cost = |text: &str| text.parse::<Cost>().unwrap();
    assert_eq!(cost("0.6%"), Cost { basis_points: 60, fixed: 0 });
    assert_eq!(cost("12.34 % + 10"), Cost { basis_points: 1_234, fixed: 10 });
    assert_eq!(cost("0.38%").of(Some(10_001)), 38_003_800);
    assert!(cost("30").of(Some(1_000)) > cost("0.6%").of(Some(1_000)));
}

#[test]
fn a_rate_is_exact_and_a_quota_begins_anew_with_its_span() {
    let channel = ChannelFacts { rate: Some("2/s".parse().unwrap()), quota: Some("3/d".parse().unwrap()), ..open("a") };
    let upstream = upstream(vec![channel]);
    let (channel, among) = (&upstream.channels[0], ChannelSet::all(1));
    let noon = 1_774_656_000 + 43_200;
    let at = |now: u64| context(now, noon);
    assert!(channel.take(&at(0)) && channel.take(&at(0)) && !channel.take(&at(0)));
    let refused = upstream.eligible(among, &mut at(SECOND / 5));
    assert_eq!((refused.channels, refused.wait), (ChannelSet(0), Some(Duration::from_millis(300))));
    assert!(channel.take(&at(SECOND / 2)));
    let refused = upstream.eligible(among, &mut at(9 * SECOND));
    assert_eq!((refused.channels, refused.wait), (ChannelSet(0), Some(Duration::from_secs(43_200))));
    assert_eq!(upstream.eligible(among, &mut context(9 * SECOND, noon + 43_200)).channels, among);
}

#[test]
fn a_row_of_signs_changes_an_endpoint_and_a_good_one_ends_a_bad_row() {
    let streaks = Streaks { out: 2, back: 2 };
    let endpoint = EndpointHealth::new("a:1".into());
    assert!(!endpoint.probed(false, streaks));
    endpoint.answered();
    assert!(!endpoint.refused(streaks));
    assert!(endpoint.probed(false, streaks), "one of each kind");
    assert!(!endpoint.is_in());
    assert!(!endpoint.refused(streaks) && !endpoint.probed(true, streaks) && !endpoint.probed(false, streaks));
    assert!(!endpoint.probed(true, streaks), "the row began anew");
    assert!(endpoint.probed(true, streaks));
    assert!(endpoint.is_in());
}

#[test]
fn what_is_out_is_left_out_unless_everything_is() {
    let channel = |name: &str| {
        let state = Arc::new(ChannelState::new());
        let endpoints = Box::new([state.endpoint("h:1")]);
        ChannelFacts { watched: true, endpoints, ..ChannelFacts::open(name.into(), state) }
    };
    let upstream = upstream(vec![channel("a"), channel("b")]);
    let streaks = Streaks { out: 1, back: 1 };
    upstream.channels[0].endpoints[0].probed(false, streaks);
    assert_eq!(upstream.eligible(ChannelSet::all(2), &mut context(0, 0)).channels, ChannelSet(0b10));
    upstream.channels[1].endpoints[0].probed(false, streaks);
    assert!(upstream.panics());
    assert_eq!(upstream.eligible(ChannelSet::all(2), &mut context(0, 0)).channels, ChannelSet(0b11));
    let again = upstream.channels[0].state.endpoint("h:1");
    assert!(!again.is_in(), "a reload finds what is known by the address");
}

fn end(result: AttemptResult, known: Known) -> AttemptEnd {
    AttemptEnd { channel: ChannelId(0), result, known, took: Duration::from_millis(5), replayable: false }
}

fn status(status: u16) -> AttemptEnd {
    end(AttemptResult::Status(StatusCode::from_u16(status).unwrap()), Known::Final)
}

#[test]
fn a_record_counts_unknown_as_half_and_leaves_out_what_says_nothing() {
    let record = Record::default();
    record.note(&status(200), Nanos(0));
    record.note(&status(404), Nanos(0));
    record.note(&end(AttemptResult::Declined { hard: true }, Known::Final), Nanos(0));
    record.note(&end(AttemptResult::Declined { hard: false }, Known::NotProcessed), Nanos(0));
    record.note(&end(AttemptResult::TimedOut, Known::Unknown), Nanos(0));
    let figures = record.figures(Nanos(0));
    assert_eq!((figures.samples, figures.success_rate()), (3, Some(0.5)));
    record.resolved(true);
    assert_eq!(record.figures(Nanos(0)).success_rate(), Some(2.0 / 3.0));
    assert_eq!(record.figures(Nanos(601 * SECOND)), Figures::default(), "ten minutes are enough");
}

#[test]
fn a_payment_that_is_sent_again_counts_once() {
    let record = Record::default();
    record.note(&status(200), Nanos(0));
    record.note(&end(AttemptResult::TimedOut, Known::Unknown), Nanos(0));
    record.again();
    record.note(&end(AttemptResult::TimedOut, Known::Unknown), Nanos(0));
    let figures = record.figures(Nanos(0));
    assert_eq!((figures.samples, figures.successes), (2, 1.5));
    record.again();
    record.note(&status(200), Nanos(0));
    assert_eq!(record.figures(Nanos(SECOND)).success_rate(), Some(1.0));
    record.again();
    assert_eq!(record.figures(Nanos(2 * SECOND)).samples, 2, "nothing is unknown, so nothing is replaced");
}

#[test]
fn a_record_keeps_the_latest_two_hundred() {
    let record = Record::default();
    (0..200).for_each(|_| record.note(&status(500), Nanos(0)));
    (0..150).for_each(|_| record.note(&status(200), Nanos(0)));
    assert_eq!(record.figures(Nanos(0)).success_rate(), Some(0.75));
    let bound = record.figures(Nanos(0)).lower_bound();
    assert!((0.685..0.690).contains(&bound), "Wilson's lower end for 150 of 200 is 0.6857: {bound}");
}

#[test]
fn a_channel_counts_who_is_on_it() {
    let state = Arc::new(ChannelState::new());
    let (one, two) = (state.begin(), state.begin());
    assert_eq!(state.in_flight(), 2);
    drop(one);
    assert_eq!(state.in_flight(), 1);
    drop(two);
    assert_eq!(state.in_flight(), 0);
}
