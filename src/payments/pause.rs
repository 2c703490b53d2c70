//! How long a payment rests before its channels are asked once more.

use std::time::Duration;

/// The pause before a round that the client will still wait for. `wanted` may be cut to half of itself, so that the last
/// round falls within the client's patience: of 1 s and 2 s, that of 2.5 s would leave the third out. What the channel has
/// `asked` for is kept.
pub(super) fn fitting(wanted: Duration, asked: Option<Duration>, left: Duration) -> Option<Duration> {
    let room = left / 8 * 7;
    let pause = wanted.min(room.max(wanted / 2)).max(asked.unwrap_or_default());
    (pause < left).then_some(pause)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn with_the_defaults_three_rounds_fall_within_the_clients_patience() {
        let (second, deadline) = (Duration::from_secs(1), Duration::from_millis(2_500));
        assert_eq!(fitting(second, None, deadline), Some(second));
        let third = fitting(second * 2, None, deadline - second).expect("a third round");
        assert!(third >= second && second + third < deadline, "{third:?}");
    }

    #[test]
    fn a_pause_is_cut_to_half_of_itself_at_most_and_never_below_what_the_channel_asked_for() {
        let second = Duration::from_secs(1);
        assert_eq!(fitting(second * 2, None, second), None);
        assert_eq!(fitting(second * 2, Some(second * 3), second * 2), None);
        assert_eq!(fitting(second, Some(second * 2), second * 3), Some(second * 2));
        assert_eq!(fitting(second, None, Duration::ZERO), None);
    }
}
