//! The same with `kill -9` of every process under load. The buyers' own record of what they were told is the oracle.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::time::Duration;

use tokio::task::{JoinHandle, JoinSet};

use super::buyer::{Buyer, Ending, client};
use super::crowd::{all_is_right, everybody_buys, latecomers_buy_the_rest};
use super::set_up::{CHANNELS, PROCESSES, Shop};
use crate::support::kill_rounds;

#[tokio::test(flavor = "multi_thread")]
async fn a_hundred_keys_are_delivered_once_although_every_process_is_killed() {
    let shop = Arc::new(Shop::start());
    let client = client();
    let killer = Killer::start(&shop, Duration::from_millis(120));
    // The first hundred or so get the keys, and spread like this they are still at it when each process is killed.
    let rounds = kill_rounds(3);
    let buyers = 400 * u32::try_from(rounds.div_ceil(3)).expect("few");
    let mut endings = everybody_buys(&shop, &client, CHANNELS, buyers, Duration::from_millis(20)).await;
    let kills = killer.stop().await;
    latecomers_buy_the_rest(&shop, &client, &mut endings).await;
    assert!(kills >= rounds * PROCESSES.len(), "only {kills} kills in that time");
    all_is_right(&shop, &client, &endings, 0).await;
}

/// Sold when the gateway is killed: again and again, the nearer the end the more often.
const KILL_AT: [usize; 5] = [50, 75, 90, 95, 98];
/// So long after the last kill a piece may take behind the one before; a visit that nobody ends lasts five minutes.
const SECONDS_AND_NOT_MINUTES: Duration = Duration::from_secs(30);

#[tokio::test(flavor = "multi_thread")]
async fn a_gateway_that_is_killed_near_the_end_keeps_no_piece_from_those_who_wait() {
    let shop = Arc::new(Shop::start());
    let client = client();
    let base = shop.url("gateway");
    let mut buying = JoinSet::new();
    for number in 0..250 {
        let buyer = Buyer::new(&client, &base, &format!("buyer-{number}"));
        buying.spawn(async move { buyer.buy("flash-100", CHANNELS[number % 3]).await });
    }
    let (mut endings, mut sold, mut kills) = (Vec::new(), 0, KILL_AT.iter().peekable());
    loop {
        // From the last kill on the rest must be sold soon; before, the machine may be as slow as it is.
        let next = buying.join_next();
        let next = match kills.peek() {
            Some(_) => next.await,
            None if sold < 100 => {
                tokio::time::timeout(SECONDS_AND_NOT_MINUTES, next).await.expect("a piece is kept back")
            }
            None => next.await,
        };
        let Some(ending) = next else { break };
        let ending = ending.expect("a buyer's ending");
        sold += usize::from(ending != Ending::SoldOut);
        endings.push(ending);
        if kills.next_if(|at| **at <= sold).is_some() {
            let shop = shop.clone();
            let kill = move || {
                shop.kill("gateway");
                shop.restart("gateway");
            };
            tokio::task::spawn_blocking(kill).await.expect("it is back");
        }
    }
    assert!(kills.next().is_none(), "only {sold} were sold");
    all_is_right(&shop, &client, &endings, 0).await;
}

/// Kills one process after the other.
struct Killer {
    over: Arc<AtomicBool>,
    kills: Option<JoinHandle<usize>>,
}

impl Drop for Killer {
    fn drop(&mut self) {
        // Also when a test fails: its runtime waits for what blocks.
        self.over.store(true, SeqCst);
    }
}

impl Killer {
    /// Kills with this pause between a process that is back and the next one's end.
    fn start(shop: &Arc<Shop>, pause: Duration) -> Self {
        let (shop, over) = (shop.clone(), Arc::new(AtomicBool::new(false)));
        let stop = over.clone();
        let kill = move || {
            let mut kills = 0;
            for name in PROCESSES.iter().cycle() {
                std::thread::sleep(pause);
                if stop.load(SeqCst) {
                    break;
                }
                shop.kill(name);
                shop.restart(name);
                kills += 1;
            }
            kills
        };
        Self { over, kills: Some(tokio::task::spawn_blocking(kill)) }
    }

    /// Every process is back; how many were killed.
    async fn stop(mut self) -> usize {
        self.over.store(true, SeqCst);
        self.kills.take().expect("stopped once").await.expect("every process is back")
    }
}
