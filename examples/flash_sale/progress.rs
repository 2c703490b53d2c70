//! How far it has come, on stderr: a line that renews itself on a terminal, a plain line now and then elsewhere.

use std::io::{IsTerminal, Write};
use std::sync::Arc;
use std::time::Duration;

use tokio::time::{MissedTickBehavior, interval};

use crate::report::grouped;
use crate::tally::Tally;

/// Width of the bar in letters.
const WIDTH: usize = 24;
/// How often the line on a terminal is renewed.
const RENEWED: Duration = Duration::from_millis(200);
/// How often a plain line is written.
const WRITTEN: Duration = Duration::from_secs(5);

/// Shows the tally until it has ended.
///
/// # Errors
/// When stderr is closed.
pub(crate) async fn show(tally: Arc<Tally>, duration: Duration) -> std::io::Result<()> {
    let terminal = std::io::stderr().is_terminal();
    let mut ticks = interval(RENEWED);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut next_line = WRITTEN;
    while !tally.ended() {
        ticks.tick().await;
        let line = line(&tally, duration);
        if terminal {
            write!(std::io::stderr(), "\r\x1b[2K{line}")?;
        } else if tally.elapsed() >= next_line {
            next_line += WRITTEN;
            writeln!(std::io::stderr(), "{line}")?;
        }
    }
    if terminal { write!(std::io::stderr(), "\r\x1b[2K") } else { Ok(()) }
}

fn line(tally: &Tally, duration: Duration) -> String {
    let elapsed = tally.elapsed();
    let share = (elapsed.as_secs_f64() / duration.as_secs_f64().max(0.001)).min(1.0);
    let full = (share * WIDTH as f64) as usize;
    let bar = "#".repeat(full) + &".".repeat(WIDTH - full);
    let [arrived, limited, sold_out, ordered, delivered, failed] = tally.glance().map(grouped);
    let seconds = elapsed.as_secs();
    let funnel = format!("ordered {ordered}  delivered {delivered}  sold out {sold_out}  failed {failed}");
    format!("[{bar}] {seconds:>3}s  arrived {arrived}  limited {limited}  {funnel}")
}
