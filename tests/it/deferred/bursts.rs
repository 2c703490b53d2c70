//! A crowd in front of a channel that bears 500 a second.

use std::sync::Arc;
use std::sync::Mutex;
use std::time::Instant;

use super::*;
use crate::support::eventually;

const CLIENTS: usize = 50;
const EACH: usize = 100;

/// A crowd that comes at once, and all of it accepted.
fn crowd(gateway: &Gateway, round: usize) {
    let address = gateway.public();
    let client = |client| {
        std::thread::spawn(move || {
            let mut raw = Raw::connect(address);
            let accepted = (0..EACH).filter(|number| {
                raw.send(request(&keyed(&format!("{round}-{client}-{number}")), "{}"));
                raw.answer().is_some_and(|answer| answer.status == 202)
            });
            accepted.count()
        })
    };
    let clients: Vec<_> = (0..CLIENTS).map(client).collect();
    let accepted: usize = clients.into_iter().map(|client| client.join().expect("a client")).sum();
    assert_eq!(accepted, CLIENTS * EACH);
}

/// How many come within a second, for seconds that begin 50 ms apart.
fn seconds(arrivals: &[Duration]) -> Vec<usize> {
    let (first, last) = (arrivals[0], arrivals[arrivals.len() - 1]);
    let before = |time: Duration| arrivals.partition_point(|arrival| *arrival < time);
    let steps = (0..).map(|step| first + Duration::from_millis(50) * step);
    let whole = steps.take_while(|from| *from + Duration::from_secs(1) <= last);
    whole.map(|from| before(from + Duration::from_secs(1)) - before(from)).collect()
}

/// Standard deviation over mean.
fn variation(counts: &[usize]) -> f64 {
    let counts: Vec<f64> = counts.iter().map(|count| u32::try_from(*count).map_or(f64::MAX, f64::from)).collect();
    let number = counts.iter().map(|_| 1.0).sum::<f64>();
    let mean = counts.iter().sum::<f64>() / number;
    (counts.iter().map(|count| (count - mean).powi(2)).sum::<f64>() / number).sqrt() / mean
}

/// One crowd: how many reached the channel in each second from its end until the line was empty, and how many requests came
/// in each second of all that time.
fn round(
    gateway: &Gateway,
    number: usize,
    arrivals: &Mutex<Vec<Duration>>,
    begun: Instant,
) -> (Vec<usize>, Vec<usize>) {
    arrivals.lock().expect("no poison").clear();
    let from = begun.elapsed();
    crowd(gateway, number);
    let crowd_over = begun.elapsed();
    let come = || arrivals.lock().expect("no poison").len();
    eventually("all are sent, once", Duration::from_secs(60), || come() == CLIENTS * EACH);
    let mut arrivals = arrivals.lock().expect("no poison").clone();
    arrivals.sort_unstable();
    let whole = usize::try_from((arrivals[arrivals.len() - 1] - from).as_secs() + 1).expect("few");
    let busy = usize::try_from((crowd_over - from).as_secs() + 1).expect("few");
    let came = (0..whole).map(|second| if second < busy { CLIENTS * EACH / busy } else { 0 }).collect();
    arrivals.retain(|arrival| *arrival > crowd_over);
    (seconds(&arrivals), came)
}

#[test]
fn a_burst_goes_out_at_500_in_every_second_and_every_promise_is_kept() {
    const ROUNDS: usize = 4;
    let begun = Instant::now();
    let arrivals: Arc<Mutex<Vec<Duration>>> = Arc::default();
    let noted = arrivals.clone();
    let origin = Origin::with(move |_, stream| {
        noted.lock().expect("no poison").push(begun.elapsed());
        stream.write_all(b"HTTP/1.1 201 Created\r\nContent-Length: 2\r\n\r\nok").is_ok()
    });
    let gateway = Gateway::start(&with(origin.address, ", when: always, rate: 500/s"));
    let mut rounds = Vec::new();
    for number in 1..=ROUNDS {
        let (seen, came) = round(&gateway, number, &arrivals, begun);
        // However busy this machine and its disk are: what they have held up is not made up for by a burst.
        assert!(seen.iter().all(|count| *count <= 600), "{seen:?}");
        let within = seen.iter().filter(|count| (475..=525).contains(*count)).count();
        let mut sorted = seen.clone();
        sorted.sort_unstable();
        let middle = sorted[seen.len() / 2];
        // Where this machine stops for a moment, twenty of these seconds have a gap.
        let even = seen.len() >= 40 && (485..=515).contains(&middle) && within * 4 >= seen.len() * 3;
        // The crowd came within its own time, and then nobody: what goes out varies less by 60 % and more.
        let smooth = variation(&seen) <= 0.4 * variation(&came);
        rounds.push((within, seen.len(), seen));
        let done = || gateway.metric("tidegate_deferred_total{filter=\"later\",event=\"done\"}");
        let all = u32::try_from(number * CLIENTS * EACH).map_or(f64::MAX, f64::from);
        eventually("all are done", PATIENCE, || done() > all - 0.5);
        if even && smooth {
            return;
        }
    }
    // A disk that stands still for half a second has its seconds without a request; it does not do so in every round.
    panic!("no round was even: {rounds:?}");
}

/// How long the 99th of a hundred of a merchant's requests takes to reach the shop, when `large` others are in line.
fn p99_of_a_small_merchant(large: usize) -> Duration {
    const SMALL: usize = 100;
    let begun = Instant::now();
    let arrivals: Arc<Mutex<Vec<Duration>>> = Arc::default();
    let noted = arrivals.clone();
    let origin = Origin::with(move |seen, stream| {
        if seen.header("x-merchant") == Some("small") {
            noted.lock().expect("no poison").push(begun.elapsed());
        }
        stream.write_all(b"HTTP/1.1 201 Created\r\nContent-Length: 2\r\n\r\nok").is_ok()
    });
    let identity = "identity:\n  merchant:\n    - {header: x-merchant}\n";
    let settings = ", when: always, scope: merchant, rate: 100/s";
    let gateway = Gateway::start(&format!("{}{identity}", with(origin.address, settings)));
    let send = |raw: &mut Raw, merchant: &str, number: usize| {
        raw.send(request(&format!("X-Merchant: {merchant}\r\n{}", keyed(&number.to_string())), "{}"));
        assert_eq!(raw.answer().expect("an answer").status, 202);
    };
    let address = gateway.public();
    let others = (0..10).map(|part| {
        std::thread::spawn(move || {
            let mut raw = Raw::connect(address);
            (0..large / 10).for_each(|number| send(&mut raw, "large", part * large + number));
        })
    });
    others.collect::<Vec<_>>().into_iter().for_each(|other| other.join().expect("a client"));
    let mut raw = Raw::connect(gateway.public());
    let from = begun.elapsed();
    (0..SMALL).for_each(|number| send(&mut raw, "small", number));
    eventually("all of the small one's are sent", PATIENCE, || arrivals.lock().expect("no poison").len() == SMALL);
    let mut times = arrivals.lock().expect("no poison").clone();
    times.sort_unstable();
    times[SMALL - 2] - from
}

#[test]
fn a_small_merchant_beside_a_large_one_waits_at_most_twice_as_long_as_alone() {
    let (alone, beside) = (p99_of_a_small_merchant(0), p99_of_a_small_merchant(1_000));
    assert!(alone > Duration::from_millis(900), "{alone:?}");
    // Half a second for a disk with neighbours; without turns it would be ten seconds more.
    assert!(beside <= 2 * alone + Duration::from_millis(500), "{beside:?} beside, {alone:?} alone");
}

#[test]
fn a_small_merchant_beside_a_large_one_gets_its_turn() {
    let origin = shop(Duration::ZERO);
    let identity = "identity:\n  merchant:\n    - {header: x-merchant}\n";
    let settings = ", when: always, scope: merchant, rate: 50/s";
    let gateway = Gateway::start(&format!("{}{identity}", with(origin.address, settings)));
    for number in 0..150 {
        assert_eq!(post(&gateway, &format!("X-Merchant: large\r\n{}", keyed(&number.to_string())), "{}").status, 202);
    }
    let waiting = gateway.metric("tidegate_deferred_depth");
    let small = post(&gateway, &format!("X-Merchant: small\r\n{}", keyed("s")), "{}");
    let place = small.json();
    assert!(place["place"].as_u64().is_none_or(|place| place <= 3), "{waiting} wait, and it stands at {place}");
    let at = super::place(&small);
    let answer = get(gateway.public(), &format!("{at}/result"), "X-Merchant: small\r\nPrefer: wait=10\r\n");
    assert_eq!(answer.status, 201);
    let still = gateway.metric("tidegate_deferred_depth");
    assert!(waiting < 5.0 || still > waiting / 2.0, "it waited for the large one: {waiting} before, {still} after");
}

#[test]
fn who_finds_no_room_is_told_and_one_identity_has_its_quota() {
    let origin = shop(Duration::from_secs(2));
    let gateway = Gateway::start(&with(origin.address, ", when: always, max_records: 2, max_in_flight: 1"));
    for key in ["a", "b"] {
        assert_eq!(post(&gateway, &keyed(key), "{}").status, 202);
    }
    let full = post(&gateway, &keyed("c"), "{}");
    assert_eq!((full.status, full.json()["code"].as_str()), (503, Some("deferred-full")));
    assert!(full.header("retry-after").is_some());
    assert_eq!(post(&gateway, &keyed("a"), "{}").status, 202, "who is in already is no newcomer");
    let mine = ", when: always, max_per_identity: 2, max_in_flight: 1";
    let gateway = Gateway::start(&with(origin.address, mine));
    for key in ["a", "b"] {
        assert_eq!(post(&gateway, &keyed(key), "{}").status, 202);
    }
    let quota = post(&gateway, &keyed("c"), "{}");
    assert_eq!((quota.status, quota.json()["code"].as_str()), (429, Some("quota-exceeded")));
}

#[test]
fn two_hundred_of_one_key_at_once_are_one_request() {
    let origin = shop(Duration::from_millis(200));
    let gateway = Gateway::start(&with(origin.address, ", when: always"));
    let address = gateway.public();
    let same: Vec<_> =
        (0..200).map(|_| std::thread::spawn(move || exchange(address, &request(&keyed("k"), "{\"qty\":1}")))).collect();
    let answers: Vec<Answer> = same.into_iter().map(|one| one.join().expect("a client")).collect();
    let places: std::collections::HashSet<_> =
        answers.iter().filter(|answer| answer.status == 202).map(place).collect();
    assert_eq!(places.len(), 1);
    assert!(answers.iter().all(|answer| matches!(answer.status, 201 | 202)), "a promise or its answer");
    assert_eq!(result(&gateway, places.iter().next().expect("one")).text(), "{\"order\":1}");
    assert_eq!(origin.seen().len(), 1);
}

#[test]
fn a_reload_loses_nobody_and_changes_the_pace_of_those_who_wait() {
    let origin = shop(Duration::ZERO);
    let gateway = Gateway::start(&with(origin.address, ", when: always, rate: 1/10s"));
    let places: Vec<String> = (0..20).map(|key| place(&post(&gateway, &keyed(&key.to_string()), "{}"))).collect();
    gateway.reload(&with(origin.address, ", when: always, rate: 1000/s"));
    // All but the first would have waited for minutes.
    for place in &places {
        assert_eq!(result(&gateway, place).status, 201);
    }
    assert_eq!(origin.seen().len(), 20);
}
