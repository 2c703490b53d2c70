//! What the gateway itself knows: which limit refused, since a client learns only about its own, and how many the waiting
//! room lets in.

use std::collections::BTreeMap;
use std::time::Duration;

use reqwest::Client;

/// The metric of decisions; one series for each filter, policy, outcome and mode.
const DECISIONS: &str = "tidegate_filter_decisions_total{";
/// The admin side answers in milliseconds; without it the run goes on.
const PATIENCE: Duration = Duration::from_secs(2);

/// Refusals so far by `filter/policy`; empty when the admin listener does not answer.
pub(crate) async fn refusals(admin: &str) -> BTreeMap<String, u64> {
    read(admin).await.map(|page| parse(&page)).unwrap_or_default()
}

/// People a minute that the waiting room lets in; `None` where there is none, or the admin listener does not answer.
pub(crate) async fn pace(admin: &str) -> Option<u64> {
    let client = Client::builder().no_proxy().timeout(PATIENCE).build().ok()?;
    let answer = client.get(format!("{}/-/waiting_rooms", admin.trim_end_matches('/'))).send().await.ok()?;
    let rooms: serde_json::Value = answer.json().await.ok()?;
    rooms["waiting_rooms"][0]["new_users_per_minute"].as_u64()
}

/// What was refused between two readings.
pub(crate) fn between(before: &BTreeMap<String, u64>, after: BTreeMap<String, u64>) -> BTreeMap<String, u64> {
    let earlier = |tier: &str| before.get(tier).copied().unwrap_or(0);
    let new = after.into_iter().map(|(tier, count)| (count.saturating_sub(earlier(&tier)), tier));
    new.filter(|(count, _)| *count > 0).map(|(count, tier)| (tier, count)).collect()
}

async fn read(admin: &str) -> Result<String, reqwest::Error> {
    let client = Client::builder().no_proxy().timeout(PATIENCE).build()?;
    let page = client.get(format!("{}/metrics", admin.trim_end_matches('/'))).send().await?;
    page.error_for_status()?.text().await
}

fn parse(page: &str) -> BTreeMap<String, u64> {
    let series = page.lines().filter_map(|line| line.strip_prefix(DECISIONS)?.split_once("} "));
    let refused = series.filter_map(|(labels, count)| {
        let label = |name: &str| labels.split(',').find_map(|pair| value(pair, name));
        let counts = label("outcome")? == "reject" && label("mode")? == "enforce" && !label("policy")?.is_empty();
        let count = count.trim().parse::<f64>().ok().filter(|_| counts)?;
        Some((format!("{}/{}", label("filter")?, label("policy")?), count as u64))
    });
    let mut sums = BTreeMap::new();
    for (tier, count) in refused {
        *sums.entry(tier).or_default() += count;
    }
    sums
}

fn value<'a>(pair: &'a str, name: &str) -> Option<&'a str> {
    pair.strip_prefix(name)?.strip_prefix("=\"")?.strip_suffix('"')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refusals_are_read_by_filter_and_policy() {
        let page = "# HELP tidegate_filter_decisions_total Decisions.\n\
            tidegate_filter_decisions_total{filter=\"limits\",policy=\"user\",outcome=\"allow\",mode=\"enforce\"} 7\n\
            tidegate_filter_decisions_total{filter=\"limits\",policy=\"user\",outcome=\"reject\",mode=\"enforce\"} 5\n\
            tidegate_filter_decisions_total{filter=\"limits\",policy=\"api\",outcome=\"reject\",mode=\"shadow\"} 9\n\
            tidegate_filter_decisions_total{filter=\"limits\",policy=\"\",outcome=\"reject\",mode=\"enforce\"} 9\n\
            tidegate_requests_total{route=\"api\"} 3\n";
        let after = parse(page);
        assert_eq!(after, BTreeMap::from([("limits/user".to_owned(), 5)]));
        let before = BTreeMap::from([("limits/user".to_owned(), 2)]);
        assert_eq!(between(&before, after), BTreeMap::from([("limits/user".to_owned(), 3)]));
    }
}
