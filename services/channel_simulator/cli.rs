//! The command line of the channel simulator.

use std::net::SocketAddr;
use std::path::PathBuf;

use super::Settings;
use super::dialects::{API_V3_KEY_VARIABLE, DEVELOPMENT_API_V3_KEY, DEVELOPMENT_EPAY_KEY, EPAY_KEY_VARIABLE};
use crate::support::Secret;
use crate::support::signature::{DEVELOPMENT_SECRET, SECRET_VARIABLE};

/// What a single simulator announces itself as.
const SERVICE: &str = "channel-simulator";

/// Arguments of `channel-simulator`. The secret is none of them: every user of the machine could read it in the list of
/// processes.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Name of the channel: 1 to 32 of a-z, 0-9 and -.
    #[arg(long, default_value = "alipay")]
    name: String,
    /// Address to listen on.
    #[arg(long, default_value = "127.0.0.1:7101")]
    listen: SocketAddr,
    /// Folder for channel-NAME.sqlite.
    #[arg(long, default_value = "data")]
    data_dir: PathBuf,
    /// Confirm every payment when it is created, as for a load run without buyers.
    #[arg(long)]
    auto_confirm: bool,
    /// Multiply the waits between attempts of a callback (1 s, 15 s, 15 s, 30 s, 3 min, ...) by this.
    #[arg(long, default_value_t = 1.0)]
    time_scale: f64,
    /// Where buyers reach this channel, for the pay_url of a payment; default: where it listens.
    #[arg(long)]
    public_url: Option<String>,
    /// JSON file with the fault plan in force at the start.
    #[arg(long)]
    plan: Option<PathBuf>,
    /// Second address for /sim only, which no fault of the plan reaches.
    #[arg(long)]
    control: Option<SocketAddr>,
    /// Folder with platform-private.pem and merchant-public.pem; default: channel-NAME-keys beside the data. What is
    /// missing is made.
    #[arg(long)]
    keys: Option<PathBuf>,
}

impl Args {
    /// The settings these arguments stand for.
    pub fn into_settings(self) -> Settings {
        Settings {
            service: SERVICE,
            name: self.name,
            listen: self.listen,
            data_dir: self.data_dir,
            secret: from_environment(SECRET_VARIABLE, DEVELOPMENT_SECRET),
            auto_confirm: self.auto_confirm,
            time_scale: self.time_scale,
            public_url: self.public_url,
            plan: self.plan,
            control: self.control,
            keys: self.keys,
            api_v3_key: from_environment(API_V3_KEY_VARIABLE, DEVELOPMENT_API_V3_KEY),
            epay_key: from_environment(EPAY_KEY_VARIABLE, DEVELOPMENT_EPAY_KEY),
        }
    }
}

/// The secret of the environment, else the one for development.
fn from_environment(variable: &str, development: &str) -> Secret {
    // A variable that is set to nothing is not set, as with the gateway.
    let set = std::env::var(variable).ok().filter(|value| !value.is_empty());
    Secret::new(set.unwrap_or_else(|| development.to_owned()))
}
