//! Transfers in rings, all at once: everybody pays everybody, across files and within them.

use tempfile::TempDir;
use tokio::task::JoinSet;

use super::{Teller, start};

const USERS: usize = 12;
const ROUNDS: usize = 25;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rings_of_concurrent_transfers_conserve_money() {
    for shards in ["4", "16"] {
        let folder = TempDir::new().expect("a folder");
        let process = start(folder.path(), shards);
        let teller = Teller::new(&process);
        let mut ids = Vec::new();
        for n in 0..USERS {
            ids.push(teller.account(&format!("u_{n}"), 100).await);
        }
        let mut rings = JoinSet::new();
        for start in 0..USERS {
            let (teller, ids) = (teller.clone(), ids.clone());
            rings.spawn(async move {
                let (mut moved, mut poor) = (0, 0);
                for round in 0..ROUNDS {
                    let (from, to) = (&ids[(start + round) % USERS], &ids[(start + round + 1 + start % 5) % USERS]);
                    let amount = i64::try_from((start * 7 + round * 13) % 90 + 1).expect("small");
                    match teller.transfer(&format!("{start}-{round}"), from, to, amount).await {
                        (201, _) => moved += 1,
                        (402, _) => poor += 1,
                        other => panic!("{other:?}"),
                    }
                }
                (moved, poor)
            });
        }
        // While they run, no file is ever unsound.
        for _ in 0..5 {
            teller.assert_sound().await;
        }
        let (mut moved, mut poor) = (0, 0);
        while let Some(done) = rings.join_next().await {
            let (ring_moved, ring_poor) = done.expect("no ring panics");
            (moved, poor) = (moved + ring_moved, poor + ring_poor);
        }
        assert!(moved > USERS * ROUNDS / 4 && poor > 0, "{moved} moved, {poor} refused");
        let mut sum = [0; 3];
        for id in &ids {
            let balance = teller.balance(id).await;
            sum.iter_mut().zip(balance).for_each(|(sum, part)| *sum += part);
        }
        assert_eq!(sum, [100 * i64::try_from(USERS).expect("small"), 0, 0]);
        teller.assert_sound().await;
    }
}
