//! What a plan takes and what it chooses.

use super::*;

fn plan(json: &str) -> Plan {
    Plan::parse(json.as_bytes()).expect("a valid plan")
}

#[test]
fn names_an_unknown_member_wherever_it_is() {
    for json in [
        r#"{"latncy":1}"#,
        r#"{"decline":{"latncy":1}}"#,
        r#"{"callback":{"latncy":1}}"#,
        r#"{"capacity":{"latncy":1}}"#,
        r#"{"latency":{"kind":"fixed","ms":1,"latncy":1}}"#,
        r#"{"latency":{"kind":"latncy"}}"#,
    ] {
        let error = Plan::parse(json.as_bytes()).expect_err("unknown");
        assert!(error.contains("`latncy`"), "{json}: {error}");
    }
}

#[test]
fn refuses_numbers_that_make_no_sense() {
    for json in [
        r#"{"decline":{"ratio":1.1}}"#,
        r#"{"callback":{"drop_ratio":-0.1}}"#,
        r#"{"callback":{"copies":0}}"#,
        r#"{"capacity":{"per_second":0}}"#,
        r#"{"decline":{"codes":["no money"]}}"#,
        r#"{"latency":{"kind":"fixed","ms":-1}}"#,
        r#"{"latency":{"kind":"uniform","min_ms":9,"max_ms":1}}"#,
    ] {
        assert!(Plan::parse(json.as_bytes()).is_err(), "{json}");
    }
}

#[test]
fn a_share_hits_the_same_payments_every_time_and_another_seed_hits_others() {
    let fates = |json: &str| -> Vec<Fate> {
        let plan = plan(json);
        (0..1_000).map(|n| plan.fate(&format!("p{n}"))).collect()
    };
    let first = fates(r#"{"seed":7,"decline":{"ratio":0.3,"codes":["A","B"]},"callback":{"drop_ratio":0.3}}"#);
    assert_eq!(first, fates(r#"{"seed":7,"decline":{"ratio":0.3,"codes":["A","B"]},"callback":{"drop_ratio":0.3}}"#));
    let declined = first.iter().filter(|fate| fate.decline.is_some()).count();
    assert!((250..350).contains(&declined), "{declined}");
    let both = first.iter().filter(|fate| fate.decline.is_some() && fate.dropped).count();
    assert!((50..130).contains(&both), "{both} of 1000: the two choices are not independent");
    assert_ne!(first, fates(r#"{"seed":8,"decline":{"ratio":0.3,"codes":["A","B"]}}"#));
    for code in ["A", "B"] {
        assert!(first.iter().any(|fate| fate.decline.as_deref() == Some(code)), "{code} was never given");
    }
}

#[test]
fn without_a_plan_everything_goes_right() {
    let fate = plan("{}").fate("p");
    assert_eq!(fate, Fate { decline: None, delay_ms: 0, dropped: false, copies: 0, probe: false, after_ms: None });
    assert_eq!(plan("{}").latency("create", "p"), std::time::Duration::ZERO);
}

#[test]
fn a_fault_that_makes_no_sense_is_refused_with_its_place_and_member() {
    for (fault, member) in [
        (r#"{"kind":"503","ratio":2}"#, "faults[0].ratio"),
        (r#"{"kind":"503","nth":0}"#, "faults[0].nth"),
        (r#"{"kind":"503","times":0}"#, "faults[0].times"),
        (r#"{"kind":"503","from":9,"to":9}"#, "faults[0].to"),
        (r#"{"kind":"503","from":9,"to":"10:00"}"#, "faults[0].to"),
        (r#"{"kind":"refuse"}"#, "faults[0].to"),
        (r#"{"kind":"refuse","to":9,"nth":1}"#, "faults[0].nth"),
        (r#"{"kind":"rst_before_read","numbers":["p"]}"#, "faults[0].numbers"),
        (r#"{"kind":"rst_after_n_bytes"}"#, "faults[0].bytes"),
        (r#"{"kind":"503","bytes":1}"#, "faults[0].bytes"),
        (r#"{"kind":"503","ms":1}"#, "faults[0].ms"),
        (r#"{"kind":"slow_body","ms":600001}"#, "faults[0].ms"),
        (r#"{"kind":"refuse","to":9,"accept":true}"#, "faults[0].accept"),
        (r#"{"kind":"decline_soft","code":"no money"}"#, "faults[0].code"),
        (r#"{"kind":"goaway","code":"NO_ERROR"}"#, "faults[0].code"),
        (r#"{"kind":"charge_then_hang","on":"query"}"#, "faults[0].on"),
        (r#"{"kind":"decline_hard","on":"refund"}"#, "faults[0].on"),
        (r#"{"kind":"charge_then_hng"}"#, "`charge_then_hng`"),
        (r#"{"kind":"503","latncy":1}"#, "`latncy`"),
        (r#"{"ratio":1}"#, "`kind`"),
        (r#"{"kind":"503","from":"25:00"}"#, "HH:MM"),
    ] {
        let error = Plan::parse(format!(r#"{{"faults":[{fault}]}}"#).as_bytes()).expect_err(fault);
        assert!(error.contains(member), "{fault}: {error}");
    }
}

#[test]
fn every_kind_of_fault_is_read_by_its_name_and_written_again() {
    for kind in Kind::ALL {
        let name = kind.name();
        let more = match kind {
            Kind::Refuse | Kind::Blackhole => r#","to":5"#,
            Kind::RstAfterNBytes => r#","bytes":5"#,
            _ => "",
        };
        let read = plan(&format!(r#"{{"faults":[{{"kind":"{name}"{more}}}]}}"#));
        assert_eq!(read.faults[0].kind, kind);
        let written = serde_json::to_vec(&read).expect("JSON");
        assert_eq!(Plan::parse(&written).expect("a plan"), read);
    }
}
