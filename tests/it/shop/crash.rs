//! The same with `kill -9` of every process under load. The buyers' own record of what they were told is the oracle.

use std::sync::Arc;
use std::time::Duration;

use super::buyer::client;
use super::crowd::{all_is_right, everybody_buys};
use super::set_up::{PROCESSES, Shop};

#[tokio::test(flavor = "multi_thread")]
async fn a_hundred_keys_are_delivered_once_although_every_process_is_killed() {
    let shop = Arc::new(Shop::start());
    let client = client();
    let victims = shop.clone();
    let killer = tokio::task::spawn_blocking(move || {
        for round in 0..2 {
            for name in PROCESSES {
                std::thread::sleep(Duration::from_millis(400 + 150 * round));
                victims.kill(name);
                victims.restart(name);
            }
        }
    });
    let endings = everybody_buys(&shop, &client, 400).await;
    killer.await.expect("every process is back");
    all_is_right(&shop, &client, &endings).await;
}
