//! `all`: every bundled backend in one process, for a first look and for demos.

use std::ffi::OsString;
use std::net::SocketAddr;
use std::path::PathBuf;

use crate::support::{Files, Running, StartError};
use crate::{card_key, channel_simulator, order};

/// Arguments of `all`. Secrets come from the same environment variables as for the single services.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Folder for all data files.
    #[arg(long, default_value = "data")]
    data_dir: PathBuf,
    /// Put demo products into an empty store.
    #[arg(long)]
    seed_demo: bool,
    /// Confirm every payment when it is created, as for a load run without buyers.
    #[arg(long)]
    auto_confirm: bool,
    /// Address of the order service.
    #[arg(long, default_value = "127.0.0.1:7001")]
    order: SocketAddr,
    /// Over how many files orders and accounts are spread: 1, 4 or 16. Fixed at the first start.
    #[arg(long, default_value = "1")]
    shards: Files,
    /// Where the order service reaches payment channels: the gateway's egress listener.
    #[arg(long, default_value = "http://127.0.0.1:8081")]
    egress: String,
    /// Where payment channels reach the order service: the gateway's public address.
    #[arg(long, default_value = "http://127.0.0.1:8080")]
    public_url: String,
    /// Address of the card-key service.
    #[arg(long, default_value = "127.0.0.1:7002")]
    card_key: SocketAddr,
    /// Address of the channel alipay.
    #[arg(long, default_value = "127.0.0.1:7101")]
    alipay: SocketAddr,
    /// Address of the channel wechat.
    #[arg(long, default_value = "127.0.0.1:7102")]
    wechat: SocketAddr,
    /// Address of the channel union.
    #[arg(long, default_value = "127.0.0.1:7103")]
    union: SocketAddr,
    /// Fault plan of a channel from the start, as CHANNEL=FILE; may be given for each.
    #[arg(long, value_parser = pair)]
    plan: Vec<(String, String)>,
    /// Second address of a channel for /sim only, as CHANNEL=ADDRESS; may be given for each.
    #[arg(long, value_parser = pair)]
    control: Vec<(String, String)>,
}

/// The channels, by what comes before the `=`.
const CHANNELS: [&str; 3] = ["alipay", "wechat", "union"];

fn pair(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((name, value)) if CHANNELS.contains(&name) => Ok((name.to_owned(), value.to_owned())),
        _ => Err(format!("expected CHANNEL=VALUE with a CHANNEL of {}", CHANNELS.join(", "))),
    }
}

/// Starts them all, those first that others call.
///
/// # Errors
/// When one of them cannot start; those before it have ended then.
pub async fn start(args: Args) -> Result<Vec<Running>, StartError> {
    let mut running = Vec::new();
    if let Err(error) = start_into(&mut running, &args).await {
        for service in running {
            service.stop();
            service.wait().await;
        }
        return Err(error);
    }
    Ok(running)
}

/// One service a line; this is the list.
async fn start_into(running: &mut Vec<Running>, args: &Args) -> Result<(), StartError> {
    let card_key = card_key::start(card_keys(args)?).await?;
    // Port 0 has become a real one by now.
    let card_key_url = format!("http://{}", card_key.address);
    running.push(card_key);
    running.push(order::start(orders(args, &card_key_url)?).await?);
    running.push(channel_simulator::start(channel(args, "channel-alipay", "alipay", args.alipay)?).await?);
    running.push(channel_simulator::start(channel(args, "channel-wechat", "wechat", args.wechat)?).await?);
    running.push(channel_simulator::start(channel(args, "channel-union", "union", args.union)?).await?);
    Ok(())
}

fn card_keys(args: &Args) -> Result<card_key::Settings, StartError> {
    let seed = args.seed_demo.then_some("--seed-demo");
    let own: card_key::cli::Args = arguments(args, args.card_key, seed)?;
    Ok(own.into_settings())
}

fn orders(args: &Args, card_key: &str) -> Result<order::Settings, StartError> {
    let shards = args.shards.to_string();
    let more =
        ["--card-key", card_key, "--egress", &args.egress, "--public-url", &args.public_url, "--shards", &shards];
    let own: order::cli::Args = arguments(args, args.order, more)?;
    Ok(own.into_settings())
}

fn channel(
    args: &Args,
    service: &'static str,
    name: &str,
    listen: SocketAddr,
) -> Result<channel_simulator::Settings, StartError> {
    let mut more = vec!["--name", name];
    more.extend(args.auto_confirm.then_some("--auto-confirm"));
    for (option, given) in [("--plan", &args.plan), ("--control", &args.control)] {
        let value = given.iter().find(|(channel, _)| channel == name);
        more.extend(value.into_iter().flat_map(|(_, value)| [option, value.as_str()]));
    }
    let own: channel_simulator::cli::Args = arguments(args, listen, more)?;
    Ok(channel_simulator::Settings { service, ..own.into_settings() })
}

/// What a service's own subcommand would read, so that everything not given here has the same default there and here.
fn arguments<'a, A: clap::Args>(
    args: &Args,
    listen: SocketAddr,
    more: impl IntoIterator<Item = &'a str>,
) -> Result<A, StartError> {
    let mut line: Vec<OsString> = vec!["--listen".into(), listen.to_string().into()];
    line.extend(["--data-dir".into(), args.data_dir.clone().into()]);
    line.extend(more.into_iter().map(OsString::from));
    let command = A::augment_args(clap::Command::new("all").no_binary_name(true));
    let read = command.try_get_matches_from(line).and_then(|matches| A::from_arg_matches(&matches));
    read.map_err(|error| StartError::Setup(error.to_string()))
}
