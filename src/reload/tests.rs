//! A reload takes over everything or nothing, forgives nobody, and tells the truth about it.

mod edits;
mod saves;
mod sights;

use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use tempfile::TempDir;
use tidegate_filters::engine::{KeyHasher, Kinds, StateRegistry};
use tidegate_filters::rate_limit::Buckets;

use super::*;
use crate::gateway::Clock;

/// A gateway on a file, without listeners.
pub(crate) struct Case {
    pub(crate) folder: TempDir,
    pub(crate) gateway: Arc<Gateway>,
    pub(crate) reloader: Arc<Reloader>,
}

impl Case {
    /// One whose file is `tidegate.yaml` in a folder of its own.
    pub(crate) fn new(text: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("tidegate.yaml"), text).unwrap();
        Self::on(folder)
    }

    /// One whose file was laid out in `folder`.
    pub(crate) fn on(folder: TempDir) -> Self {
        let file = folder.path().join("tidegate.yaml");
        let (kinds, env) = (Arc::new(Kinds::builtin()), Arc::new(|_: &str| None));
        let loaded = config::load(&file, &kinds, &*env).unwrap();
        let shared = Arc::new(Shared {
            states: StateRegistry::new(),
            hasher: KeyHasher::random(),
            clock: Clock::start(),
            telemetry: Telemetry::new(AccessLogTarget::Off).unwrap(),
            payments: crate::payments::Payments::default(),
            deferred: Worker::default(),
        });
        let first = snapshot::build(&loaded, 1, &shared).unwrap();
        let gateway = Arc::new(Gateway::new(shared, Arc::new(first)));
        let reloader = Arc::new(Reloader::new(file, kinds, env, gateway.clone(), &loaded));
        Self { folder, gateway, reloader }
    }

    pub(crate) fn file(&self) -> PathBuf {
        self.folder.path().join("tidegate.yaml")
    }

    pub(crate) fn write(&self, text: &str) {
        std::fs::write(self.file(), text).unwrap();
    }

    fn reload(&self, text: &str) -> Result<Attempt, ReloadError> {
        self.write(text);
        self.reloader.reload(Source::Admin)
    }

    pub(crate) fn generation(&self) -> u64 {
        self.gateway.snapshot().generation
    }

    fn states(&self) -> usize {
        self.gateway.shared.states.all::<Buckets>().len()
    }

    fn metrics(&self) -> String {
        self.gateway.shared.telemetry.render(&self.gateway)
    }
}

/// A file with these filters, each on a line of its own.
pub(crate) fn file(filters: &str) -> String {
    let filters = if filters.is_empty() { "  {}" } else { filters };
    format!(
        r#"version: 1
server: {{listeners: [{{name: public, address: "127.0.0.1:0"}}]}}
admin: {{address: "127.0.0.1:0"}}
upstreams: {{shop: {{channels: [{{name: shop, endpoints: ["127.0.0.1:7001"]}}]}}}}
filters:
{filters}
routes: [{{name: all, upstream: shop}}]
"#
    )
}

/// A limit of that name.
pub(crate) fn limit(name: &str, key: &str, rate: &str) -> String {
    format!("  {name}: {{rate_limit: {{policies: [{{name: one, key: {key}, rate: {rate}}}]}}}}\n")
}

fn header(name: &str, value: &str) -> String {
    format!("  {name}: {{headers: {{response: {{set: {{x-mark: {value}}}}}}}}}\n")
}

/// Writes a secret that others may not read.
fn secret(path: &Path) {
    std::fs::write(path, "0123456789abcdef0123456789abcdef").unwrap();
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600)).unwrap();
}

#[test]
fn each_filter_is_told_what_became_of_its_memory_before_and_after() {
    let two = "  wide: {rate_limit: {policies: [{name: a, key: client, rate: 1/s}";
    let old = [
        limit("same", "client", "1/s"),
        limit("faster", "client", "1/s"),
        limit("other-key", "client", "1/s"),
        limit("gone", "client", "1/s"),
        header("mark", "old"),
        format!("{two}]}}}}\n"),
    ];
    let new = [
        limit("same", "client", "1/s"),
        limit("faster", "client", "2/s"),
        limit("other-key", "route", "1/s"),
        limit("fresh", "client", "1/s"),
        header("mark", "new"),
        format!("{two}, {{name: b, key: route, rate: 1/s}}]}}}}\n"),
    ];
    let case = Case::new(&file(&old.concat()));
    let states = case.states();
    let preview = case.reloader.check(&file(&new.concat())).unwrap();
    assert_eq!(case.states(), states, "asking leaves no trace");
    let attempt = case.reload(&file(&new.concat())).unwrap();
    assert_eq!(preview.changes, attempt.changes);
    let told: Vec<_> =
        attempt.changes.iter().map(|one| (&*one.filter, one.fate, one.changed, one.why.as_deref())).collect();
    let expected = [
        ("same", Fate::Kept, false, None),
        ("faster", Fate::Rescaled, true, None),
        ("other-key", Fate::Reset, true, Some("`other-key/one` counts by something else")),
        ("fresh", Fate::New, true, None),
        ("mark", Fate::Kept, true, Some("it remembers nothing")),
        ("wide", Fate::Rescaled, true, Some("`wide/b` is new")),
        ("gone", Fate::Dropped, true, None),
    ];
    assert_eq!(told, expected);
    let metrics = case.metrics();
    for line in ["{action=\"kept\"} 2", "{action=\"rescaled\"} 2", "{action=\"reset\"} 1", "{action=\"dropped\"} 1"] {
        assert!(metrics.contains(&format!("tidegate_config_state_actions_total{line}")), "{line} in\n{metrics}");
    }
}

#[test]
fn a_limit_that_comes_back_remembers_who_owes() {
    let case = Case::new(&file(&limit("quota", "client", "10/h")));
    let key = case.gateway.snapshot().identities.client_identity("192.0.2.7".parse().unwrap()).key;
    let left = || {
        let (_, buckets) = case.gateway.shared.states.all::<Buckets>().remove(0);
        buckets.peek(key, case.gateway.shared.clock.now()).map(|view| view.remaining)
    };
    let (_, buckets) = case.gateway.shared.states.all::<Buckets>().remove(0);
    buckets.take(key, 10, case.gateway.shared.clock.now()).unwrap();
    drop(buckets);
    case.reload(&file(&header("mark", "a"))).unwrap();
    let back = case.reload(&file(&limit("quota", "client", "10/h"))).unwrap();
    assert_eq!((back.changes[0].fate, left()), (Fate::Kept, Some(0)));
    // Twice the room, and still all of it used.
    case.reload(&file(&limit("quota", "client", "20/h"))).unwrap();
    assert_eq!(left(), Some(0));
}

#[test]
fn the_same_text_again_does_nothing() {
    let text = file(&limit("quota", "client", "10/h"));
    let case = Case::new(&text);
    let attempt = case.reload(&text).unwrap();
    assert_eq!((attempt.result, case.generation()), ("unchanged", 1));
    assert!(case.reloader.check(&text).unwrap().unchanged);
    assert_eq!(case.reloader.versions().len(), 1);
}

#[test]
fn whatever_is_wrong_the_old_configuration_goes_on_and_the_status_says_why() {
    let good = file(&limit("quota", "client", "10/h"));
    let case = Case::new(&good);
    let before = Arc::as_ptr(&case.gateway.snapshot());
    let typo = good.replace("rate: 10/h", "rate: lots");
    let error = case.reload(&typo).unwrap_err();
    assert_eq!((error.problems().len(), error.problems()[0].line), (1, 6), "{error}");
    let last = case.reloader.status().last_reload.unwrap();
    assert_eq!((last.result, last.problems.len(), last.generation), ("refused", 1, 1));

    let elsewhere = good.replace("public, address: \"127.0.0.1:0\"", "public, address: \"127.0.0.1:1\"");
    let error = case.reload(&elsewhere.replace("server: {", "server: {threads: 3, ")).unwrap_err();
    assert_eq!(error, ReloadError::RestartRequired(vec!["server.listeners", "server.threads"]));
    assert!(case.reloader.status().last_reload.unwrap().error.unwrap().contains("`server.threads`"));

    let nowhere = file(&limit("quota", "route", "10/h")).replace("127.0.0.1:7001", "no-such-host.invalid:1");
    assert!(matches!(case.reload(&nowhere), Err(ReloadError::Build(why)) if why.contains("no-such-host.invalid")));
    std::fs::remove_file(case.file()).unwrap();
    assert!(matches!(case.reloader.reload(Source::Admin), Err(ReloadError::Problems(_))));

    assert_eq!(Arc::as_ptr(&case.gateway.snapshot()), before);
    assert_eq!(case.states(), 1, "what was refused left nothing behind");
    assert!(case.metrics().contains("tidegate_config_last_reload_successful 0"));
    assert!(case.metrics().contains("tidegate_config_reloads_total{result=\"refused\",source=\"admin\"} 4"));
    case.reload(&good).unwrap();
    assert!(case.metrics().contains("tidegate_config_last_reload_successful 1"));
    assert_eq!(case.reloader.status().last_reload.unwrap().result, "unchanged");
}

#[test]
fn a_refused_file_is_tried_again_and_says_the_same_thing_once() {
    let text = file(&limit("quota", "user", "10/h"));
    let text = format!("{text}identity: {{user: [{{jwt: {{secret_file: key, algorithms: [HS256], claim: sub}}}}]}}\n");
    let case = Case::new(&file(""));
    assert!(case.reload(&text).is_err());
    assert!(case.reloader.is_refused());
    (0..3).for_each(|_| case.reloader.retry());
    assert!(case.metrics().contains("{result=\"refused\",source=\"admin\"} 1"));
    assert!(!case.metrics().contains("{result=\"refused\",source=\"watch\"}"), "{}", case.metrics());
    secret(&case.folder.path().join("key"));
    case.reloader.retry();
    assert_eq!((case.generation(), case.reloader.is_refused()), (2, false));
    assert_eq!(case.reloader.status().last_reload.unwrap().result, "applied");
}

#[test]
fn a_rollback_serves_what_was_and_holds_until_somebody_says_otherwise() {
    let texts: Vec<_> = (1..=3).map(|rate| file(&limit("quota", "client", &format!("{rate}/h")))).collect();
    let case = Case::new(&texts[0]);
    texts[1..].iter().for_each(|text| _ = case.reload(text).unwrap());
    assert_eq!(case.reloader.rollback(9).unwrap_err(), ReloadError::UnknownVersion(9));
    let attempt = case.reloader.rollback(1).unwrap();
    assert_eq!((attempt.result, attempt.generation), ("applied", 4));
    assert_eq!(&*case.gateway.snapshot().redacted, texts[0]);
    // The watcher may look as often as it likes: the file has not changed.
    for _ in 0..3 {
        assert_eq!(case.reloader.reload(Source::Watch).unwrap().result, "unchanged");
    }
    // Nor has it when it was only away for a while.
    std::fs::remove_file(case.file()).unwrap();
    assert!(case.reloader.reload(Source::Watch).is_err());
    case.write(&texts[2]);
    case.reloader.retry();
    assert_eq!((case.generation(), case.reloader.is_refused()), (4, false));
    case.reloader.reload(Source::Signal).unwrap();
    assert_eq!((case.generation(), &*case.gateway.snapshot().redacted), (5, &*texts[2]));
    let versions: Vec<_> = case.reloader.versions().iter().map(|one| (one.generation, one.source)).collect();
    let expected =
        [(5, Source::Signal), (4, Source::Rollback), (3, Source::Admin), (2, Source::Admin), (1, Source::Start)];
    assert_eq!(versions, expected);
}

#[test]
fn ten_versions_are_kept_the_running_one_among_them() {
    let case = Case::new(&file(""));
    for number in 0..15 {
        case.reload(&file(&header("mark", &format!("m{number}")))).unwrap();
    }
    let versions = case.reloader.versions();
    assert_eq!((versions.len(), versions[0].generation, versions[9].generation), (10, 16, 7));
}

#[test]
fn reloads_at_the_same_time_happen_one_after_the_other() {
    let case = Case::new(&file(""));
    std::thread::scope(|scope| {
        for thread in 0..4 {
            let case = &case;
            scope.spawn(move || {
                for number in 0..10 {
                    // Renamed over, so that nobody reads half a file.
                    let next = case.folder.path().join(format!("next-{thread}"));
                    std::fs::write(&next, file(&header("mark", &format!("m{thread}-{number}")))).unwrap();
                    std::fs::rename(&next, case.file()).unwrap();
                    case.reloader.reload(Source::Admin).unwrap();
                }
            });
        }
    });
    let on_disk = std::fs::read_to_string(case.file()).unwrap();
    assert_eq!(&*case.gateway.snapshot().redacted, on_disk, "the last one stands");
    let generations: Vec<_> = case.reloader.versions().iter().map(|version| version.generation).collect();
    assert!(generations.is_sorted_by(|later, earlier| later == &(earlier + 1)), "{generations:?}");
}

#[test]
fn states_that_nobody_uses_go_after_their_time() {
    let case = Case::new(&file(&limit("quota", "client", "10/h")));
    case.reload(&file("")).unwrap();
    let (states, now) = (&case.gateway.shared.states, case.gateway.shared.clock.now());
    states.sweep(now, LINGER);
    states.sweep(now.after(LINGER - Duration::from_secs(1)), LINGER);
    assert_eq!(case.states(), 1);
    states.sweep(now.after(LINGER), LINGER);
    assert_eq!(case.states(), 0);
}
