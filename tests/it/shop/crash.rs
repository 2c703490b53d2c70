//! The same with `kill -9` of every process under load. The buyers' own record of what they were told is the oracle.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::time::Duration;

use super::buyer::client;
use super::crowd::{EACH, all_is_right, everybody_buys};
use super::set_up::{PROCESSES, Shop};

#[tokio::test(flavor = "multi_thread")]
async fn a_hundred_keys_are_delivered_once_although_every_process_is_killed() {
    let shop = Arc::new(Shop::start());
    let client = client();
    let (victims, over) = (shop.clone(), Arc::new(AtomicBool::new(false)));
    let buying = over.clone();
    let killer = tokio::task::spawn_blocking(move || {
        let mut kills = 0;
        for name in PROCESSES.iter().cycle() {
            std::thread::sleep(Duration::from_millis(120));
            if buying.load(SeqCst) {
                return kills;
            }
            victims.kill(name);
            victims.restart(name);
            kills += 1;
        }
        kills
    });
    // The first hundred or so get the keys, and spread like this they are still at it when each process is killed.
    let endings = everybody_buys(&shop, &client, EACH, 400, Duration::from_millis(20)).await;
    over.store(true, SeqCst);
    let kills = killer.await.expect("every process is back");
    assert!(kills >= 3 * PROCESSES.len(), "only {kills} kills in that time");
    all_is_right(&shop, &client, &endings).await;
}
