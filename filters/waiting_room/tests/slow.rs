//! A disk that takes its time: what is told late is news to all who were told something before.

use std::cell::Cell;

use super::desk::{Client, full};
use super::long_polls::{at_once, document, look};
use super::rooms::{fill, place, places};
use super::support::Bench;
use crate::waiting_room::desk::Ask;
use crate::waiting_room::{Level, Look, Notice};

/// A tick that begins now and ends this much later, when its line is written.
fn slow_tick(bench: &mut Bench, span: u64) {
    let (begun, asked) = (bench.now + 100, Cell::new(false));
    bench.room.maintain(|| if asked.replace(true) { begun + span } else { begun });
    bench.now = begun + span;
}

#[tokio::test]
async fn who_looked_while_the_news_was_being_written_hears_it_at_once() {
    for sold_out in [true, false] {
        let (mut bench, _holder) = full();
        let mut visitor = Client::default();
        visitor.joins(&bench);
        bench.pass(5_000);
        let tag = format!("\"{:x}-1\"", bench.room.news().mark);
        if sold_out {
            bench.room.set_sold_out(true);
        } else {
            bench.room.set_notice(Some(Notice { text: "soon".to_owned(), level: Level::Info }));
        }
        // Three seconds into the write the visitor looks and is given a new ticket.
        let begun = bench.now;
        bench.now += 3_000;
        assert_eq!(visitor.asks(&bench, Ask::Status).0, 200);
        bench.now = begun;
        slow_tick(&mut bench, 5_000);
        let told = document(&at_once(look(&bench, &visitor, &tag)).expect("it is news"));
        assert_eq!((&told["soldOut"], told["message"].is_string()), (&sold_out.into(), !sold_out));
    }
}

#[tokio::test]
async fn a_turn_that_was_written_slowly_is_told_at_once_and_lasts_as_long_as_any() {
    let (mut bench, mut holder) = full();
    let mut visitor = Client::default();
    visitor.joins(&bench);
    bench.pass(5_000);
    holder.asks(&bench, Ask::Leave);
    let begun = bench.now;
    bench.now += 3_000;
    assert_eq!(visitor.asks(&bench, Ask::Status).0, 200);
    bench.now = begun;
    slow_tick(&mut bench, 30_000);
    let told = document(&at_once(look(&bench, &visitor, "")).expect("it is their turn"));
    assert_eq!((&told["state"], told["readyUntil"].as_u64()), (&"READY".into(), Some(bench.now + 60_000)));
}

#[test]
fn a_turn_begins_when_it_is_written() {
    let mut bench = Bench::new(places(1));
    let inside = fill(&mut bench, 1)[0];
    let next = place(&bench);
    bench.room.end(inside);
    slow_tick(&mut bench, 20_000);
    assert_eq!(bench.room.look(bench.now, next, 0), Look::Turn(next, bench.now + 60_000));
}
