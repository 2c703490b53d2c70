//! Every form in which a client may try to send a header that is not its to send.

use super::Reserved;

fn reserved(name: &str) -> bool {
    Reserved::new(["x-user-id", "x_tenant"].into_iter()).contains(name.as_bytes())
}

#[test]
fn ten_forms_of_reserved_names_are_recognised() {
    for name in [
        "x-user-id",
        "X-User-Id",
        "X-USER-ID",
        "x_user_id",
        "X_User-Id",
        "x-tidegate-user",
        "X-TIDEGATE-PRIORITY",
        "x_tidegate_user",
        "Tidegate-Outcome",
        "tidegate_attempts",
        "X-Tenant",
        "Tidegate_Channel",
        "x-tidegate-",
    ] {
        assert!(reserved(name), "{name}");
    }
}

#[test]
fn other_names_are_the_clients_own() {
    for name in ["x-user", "x-user-ids", "xx-user-id", "user-id", "tidegate", "x-tidegate", "x-tide-gate", "host", ""] {
        assert!(!reserved(name), "{name}");
    }
}

#[test]
fn pinning_a_channel_is_left_to_the_proxy() {
    assert!(!reserved("Tidegate-Channel"));
    assert!(!reserved("tidegate-channel"));
    assert!(reserved("tidegate-channels"));
}
