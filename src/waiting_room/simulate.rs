//! `tidegate waiting-room simulate`: a day of arrivals against a room's limits, in seconds, to choose the limits by.

use std::io::Write as _;
use std::path::{Path, PathBuf};

use clap::{Args, Subcommand};
use tidegate_filters::engine::{Kinds, TimeSpan};
use tidegate_filters::waiting_room::rules::Rules;
use tidegate_filters::waiting_room::simulation::{Arrival, Report, simulate};

use super::page;
use crate::config;

/// Tools for waiting rooms.
#[derive(Subcommand)]
pub(crate) enum Tool {
    /// Let recorded or made-up visitors come to a room, and see how long they wait.
    Simulate(Simulate),
    /// Print the gateway's own page, to make another from it for `custom_page_html`.
    Page,
}

/// What is simulated.
#[derive(Args)]
pub(crate) struct Simulate {
    /// Visitors, one a line, as CSV (`arrival_seconds,leave_probability,think_seconds`) or as JSON objects with
    /// `arrival`, `leave` and `think`.
    #[arg(long)]
    arrivals: PathBuf,
    /// Take the limits from this configuration file.
    #[arg(short, long, requires = "room")]
    config: Option<PathBuf>,
    /// The room in it.
    #[arg(long, requires = "config")]
    room: Option<String>,
    /// People inside at once.
    #[arg(long, required_unless_present = "config")]
    total_active_users: Option<u32>,
    /// People admitted in a minute.
    #[arg(long, required_unless_present = "config")]
    new_users_per_minute: Option<u32>,
    /// How long a visit lasts without a request.
    #[arg(long)]
    session_duration: Option<TimeSpan>,
    /// Decides what is left to chance.
    #[arg(long, default_value_t = 1)]
    seed: u64,
}

/// Prints what a tool came to.
///
/// # Errors
/// What is wrong with the arguments or the file of arrivals.
pub(crate) fn run(tool: &Tool, kinds: &Kinds) -> Result<(), String> {
    let asked = match tool {
        Tool::Simulate(asked) => asked,
        Tool::Page => return std::io::stdout().write_all(page::TEMPLATE.as_bytes()).map_err(|error| error.to_string()),
    };
    let rules = rules(asked, kinds)?;
    let text =
        std::fs::read_to_string(&asked.arrivals).map_err(|error| format!("{}: {error}", asked.arrivals.display()))?;
    let arrivals = parse(&text, &asked.arrivals)?;
    let report = simulate(&rules, &arrivals, asked.seed);
    print(&report).map_err(|error| error.to_string())
}

fn rules(asked: &Simulate, kinds: &Kinds) -> Result<Rules, String> {
    let mut rules = match (&asked.config, &asked.room) {
        (Some(file), Some(name)) => {
            let loaded =
                config::load(file, kinds, &|name| std::env::var(name).ok()).map_err(|report| report.to_string())?;
            let room = loaded.config.rooms.iter().find(|room| *room.name == **name);
            room.map(|room| room.rules.clone()).ok_or_else(|| format!("no waiting room is named `{name}`"))?
        }
        _ => Rules::new(1, 1, 300_000),
    };
    if let Some(total) = asked.total_active_users {
        rules.limits.total_active_users = total;
    }
    if let Some(rate) = asked.new_users_per_minute {
        rules.limits.new_users_per_minute = rate;
    }
    if let Some(TimeSpan(span)) = asked.session_duration {
        rules.limits.session = u64::try_from(span.as_millis()).unwrap_or(u64::MAX);
    }
    Ok(rules)
}

fn parse(text: &str, file: &Path) -> Result<Vec<Arrival>, String> {
    let mut arrivals = Vec::new();
    for (at, line) in text.lines().enumerate() {
        let line = line.trim();
        let header = at == 0 && line.starts_with(|c: char| c.is_ascii_alphabetic());
        if line.is_empty() || line.starts_with('#') || header {
            continue;
        }
        let arrival = if line.starts_with('{') { json(line) } else { csv(line) };
        arrivals.push(arrival.ok_or_else(|| {
            format!(
                "{}:{}: not a visitor; write `arrival_seconds,leave_probability,think_seconds`",
                file.display(),
                at + 1
            )
        })?);
    }
    Ok(arrivals)
}

fn json(line: &str) -> Option<Arrival> {
    let value: serde_json::Value = serde_json::from_str(line).ok()?;
    let number = |name: &str, default: f64| value.get(name).map_or(Some(default), serde_json::Value::as_f64);
    arrival(value.get("arrival")?.as_f64()?, number("leave", 0.0)?, number("think", 60.0)?)
}

fn csv(line: &str) -> Option<Arrival> {
    let mut fields = line.split(',').map(|field| field.trim().parse::<f64>().ok());
    let at = fields.next()??;
    arrival(at, fields.next().unwrap_or(Some(0.0))?, fields.next().unwrap_or(Some(60.0))?)
}

fn arrival(at: f64, leave: f64, think: f64) -> Option<Arrival> {
    let fits = at.is_finite() && at >= 0.0 && think.is_finite() && think >= 0.0 && (0.0..=1.0).contains(&leave);
    fits.then_some(Arrival { at: (at * 1_000.0) as u64, leave, think: (think * 1_000.0) as u64, keeps_cookies: true })
}

fn print(report: &Report) -> std::io::Result<()> {
    let mut out = std::io::stdout().lock();
    let seconds = |millis: u64| millis as f64 / 1_000.0;
    writeln!(out, "admitted              {}", report.admitted)?;
    writeln!(out, "admitted a minute     {:.1} (at most {} in any 60 s)", report.per_minute, report.most_in_a_minute)?;
    writeln!(out, "inside at once        {} at most", report.most_inside)?;
    writeln!(out, "left while waiting    {}", report.left)?;
    writeln!(out, "refused               {}", report.refused)?;
    writeln!(
        out,
        "wait                  p50 {:.1} s, p99 {:.1} s",
        seconds(report.wait_p50),
        seconds(report.wait_p99)
    )?;
    writeln!(out, "longest line          {}", report.longest_line)?;
    writeln!(out, "overtaken             {}", report.overtaken)?;
    writeln!(out, "error of told waits   {:.0} % (median)", report.eta_error * 100.0)?;
    writeln!(out, "polls                 {}", report.polls)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn visitors_are_read_from_either_form_and_a_bad_line_is_named() {
        let text = "arrival,leave,think\n0.5,0.2,30\n# noon\n{\"arrival\": 2}\n3\n";
        let arrivals = parse(text, Path::new("a.csv")).unwrap();
        let read: Vec<_> = arrivals.iter().map(|arrival| (arrival.at, arrival.leave, arrival.think)).collect();
        assert_eq!(read, [(500, 0.2, 30_000), (2_000, 0.0, 60_000), (3_000, 0.0, 60_000)]);
        assert!(parse("1,2,3", Path::new("a.csv")).unwrap_err().starts_with("a.csv:1:"));
    }
}
