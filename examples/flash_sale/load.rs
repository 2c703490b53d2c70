//! The schedule: who arrives when, whatever has become of those before.

use std::net::Ipv4Addr;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use jsonwebtoken::{EncodingKey, Header, encode};
use rand::Rng;
use serde_json::json;
use tokio::task::JoinSet;
use tokio::time::sleep_until;

use crate::buyer::{Buyer, Person, Wish};
use crate::shop::Shop;
use crate::tally::Tally;
use crate::{Args, Failure};

/// The bundled shop's own, for a first look; the same default stands in `config/tidegate.yaml`.
const DEFAULT_SECRET: &str = "development-only-secret-of-the-bundled-shop";
/// Environment variable with the secret that signs buyers' tokens.
const SECRET: &str = "TIDEGATE_JWT_SECRET";
/// Seconds a token is good for on top of the run.
const TOKEN_SECONDS: u64 = 3_600;
/// Most purchases under way. Behind a gateway that has stopped answering they would pile up without end.
const MOST_UNDER_WAY: usize = 20_000;

/// Everything about a run that is fixed before it starts.
pub(crate) struct Plan {
    arrivals: u64,
    interval: Duration,
    duration: Duration,
    buyers: Vec<Person>,
    flooder: Person,
    flooder_share: f64,
    pay_ratio: f64,
    sku: Arc<str>,
    channels: Vec<Arc<str>>,
    patient: bool,
    settle: Duration,
}

impl Plan {
    pub(crate) fn new(args: &Args) -> Result<Self, Failure> {
        let (interval, duration) = (args.rate.interval(), args.duration.0);
        let arrivals = u64::try_from(duration.as_nanos() / interval.as_nanos())?.max(1);
        let tokens = Tokens::new(duration)?;
        let buyers = (0..args.users).map(|number| tokens.person(number)).collect::<Result<_, _>>()?;
        Ok(Self {
            arrivals,
            interval,
            duration,
            buyers,
            flooder: tokens.person(args.users)?,
            flooder_share: args.flooder,
            pay_ratio: args.pay_ratio,
            sku: args.sku.as_str().into(),
            channels: args.channels.iter().map(|channel| channel.as_str().into()).collect(),
            patient: args.patient,
            settle: args.settle.0,
        })
    }

    /// What the arrival of this number wants. The flooder's arrivals are spread evenly over the run.
    fn wish(&self, number: u64, start: Instant) -> Wish {
        let floods = counted(number + 1, self.flooder_share) > counted(number, self.flooder_share);
        let person = if floods { &self.flooder } else { pick(&self.buyers, number) };
        let due = start + self.interval.mul_f64(number as f64);
        Wish {
            sku: self.sku.clone(),
            channel: pick(&self.channels, number).clone(),
            person: person.clone(),
            floods,
            pays: rand::rng().random_bool(self.pay_ratio),
            due,
            patient_until: if self.patient { start + self.duration } else { due },
            settle: self.settle,
        }
    }
}

/// How many of the first `number` belong to a share.
fn counted(number: u64, share: f64) -> u64 {
    (number as f64 * share) as u64
}

fn pick<T>(all: &[T], number: u64) -> &T {
    let at = number % (all.len() as u64);
    &all[usize::try_from(at).unwrap_or(0)]
}

/// Makes tokens. The people of each run are new ones: an earlier run has not used up their quotas.
struct Tokens {
    secret: EncodingKey,
    run: u32,
    expires: u64,
}

impl Tokens {
    fn new(duration: Duration) -> Result<Self, Failure> {
        let secret = std::env::var(SECRET).ok().filter(|secret| !secret.is_empty());
        let secret = EncodingKey::from_secret(secret.as_deref().unwrap_or(DEFAULT_SECRET).as_bytes());
        let now = SystemTime::now().duration_since(UNIX_EPOCH)?;
        Ok(Self { secret, run: rand::rng().random(), expires: (now + duration).as_secs() + TOKEN_SECONDS })
    }

    /// Addresses are of 198.18.0.0/15, which is set aside for benchmarks (RFC 2544).
    fn person(&self, number: u32) -> Result<Person, Failure> {
        let claims = json!({ "sub": format!("flash-{:08x}-{number}", self.run), "exp": self.expires });
        let address = Ipv4Addr::from(u32::from(Ipv4Addr::new(198, 18, 0, 0)) + number);
        let token = encode(&Header::default(), &claims, &self.secret)?;
        Ok(Person { token: token.into(), address: address.to_string().into() })
    }
}

/// Lets everybody arrive and waits until the last one has left. Ctrl-c ends the arrivals, a second one the waiting.
/// Answers how long people arrived.
pub(crate) async fn run(plan: Plan, shop: Arc<Shop>, tally: Arc<Tally>) -> Duration {
    let mut under_way = JoinSet::new();
    let start = Instant::now();
    tokio::select! {
        () = arrive(&plan, start, &shop, &tally, &mut under_way) => {}
        _ = tokio::signal::ctrl_c() => {}
    }
    let arrived_for = start.elapsed();
    tokio::select! {
        () = async { while under_way.join_next().await.is_some() {} } => {}
        _ = tokio::signal::ctrl_c() => {}
    }
    arrived_for
}

async fn arrive(plan: &Plan, start: Instant, shop: &Arc<Shop>, tally: &Arc<Tally>, under_way: &mut JoinSet<()>) {
    for number in 0..plan.arrivals {
        let wish = plan.wish(number, start);
        sleep_until(wish.due.into()).await;
        while under_way.try_join_next().is_some() {}
        if under_way.len() >= MOST_UNDER_WAY {
            tally.not_started();
            continue;
        }
        let buyer = Buyer { wish, shop: Arc::clone(shop), tally: Arc::clone(tally) };
        under_way.spawn(buyer.visit());
    }
}
