//! What only the store in memory has: parts with locks of their own.

use proptest::prelude::*;

use super::*;

/// Length of an answer of [`stored`] without its text.
const REST: usize = "x-shopyes".len();

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]

    #[test]
    fn the_answer_that_came_first_makes_room_in_whichever_part_it_is(
        order in Just((0..=255_u8).collect::<Vec<_>>()).prop_shuffle(),
        room in 1_usize..100,
    ) {
        let size = REST + 100;
        let most = Most { records: 1_000, bytes: u64::try_from(size * room).expect("small") };
        let store = MemoryRecords::new(Arc::new(Bounds::new(most)));
        let text = "x".repeat(100);
        for number in &order {
            answered(store.claim(wish(*number, 1, 1, 0)));
            answered(store.settle(settle(*number, 1, End::Done(stored(&text)))));
        }
        let whole = |number: u8| match answered(store.claim(wish(number, 1, 2, 1))) {
            Claimed::Done(stored) => stored.body.is_some(),
            other => panic!("{other:?}"),
        };
        let kept: Vec<u8> = order.iter().copied().filter(|number| whole(*number)).collect();
        prop_assert_eq!(&kept, &order[order.len() - room..]);
    }
}

#[test]
fn many_at_once_stay_within_the_bytes_there_may_be() {
    let most = Most { records: 10_000, bytes: 10_000 };
    let store = MemoryRecords::new(Arc::new(Bounds::new(most)));
    std::thread::scope(|scope| {
        for part in 0..8_u8 {
            let store = &store;
            scope.spawn(move || {
                for number in 0..32 {
                    let number = part * 32 + number;
                    answered(store.claim(wish(number, 1, 1, 0)));
                    answered(store.settle(settle(number, 1, End::Done(stored(&"x".repeat(991))))));
                }
            });
        }
    });
    let bodies = (0..=255_u8).filter(|number| {
        matches!(answered(store.claim(wish(*number, 1, 2, 1))), Claimed::Done(stored) if stored.body.is_some())
    });
    assert_eq!(bodies.count(), 10);
}
