//! Demo data: three products with made-up keys, so that a fresh start has something to sell.

use std::sync::Arc;

use bytes::Bytes;
use rand::Rng;
use tokio::sync::mpsc;

use super::catalogue::{Dedupe, Product, Shelf, Source};
use super::import;
use super::policy::Policy;
use super::rows::State;
use super::shop::Shop;
use crate::support::StartError;

/// Letters of a made-up key: without those that are mistaken for one another.
const LETTERS: &[u8] = b"ABCDEFGHJKLMNPQRSTUVWXYZ23456789";

struct Demo {
    sku: &'static str,
    names: [&'static str; 2],
    descriptions: [&'static str; 2],
    /// In fen.
    price: i64,
    keys: usize,
}

const DEMO: [Demo; 3] = [
    Demo {
        sku: "steam-50",
        names: ["Steam 50 元充值卡", "Steam gift card, 50 yuan"],
        descriptions: ["付款后自动发货，凭查询密码查看卡密。", "Delivered at once; read it with your query password."],
        price: 5_000,
        keys: 5_000,
    },
    Demo {
        sku: "game-100",
        names: ["游戏点卡 100 元", "Game points, 100 yuan"],
        descriptions: ["适用于多款游戏的点卡。", "Points for many games."],
        price: 9_800,
        keys: 3_000,
    },
    Demo {
        sku: "flash-100",
        names: ["限时抢购 100 元卡", "Flash sale: 100 yuan card"],
        descriptions: ["仅 100 张，售完即止。", "One hundred cards, and not one more."],
        price: 4_900,
        keys: 100,
    },
];

/// Adds the demo products with their keys, unless there is any product already.
///
/// # Errors
/// [`StartError::Setup`] when they cannot be written.
pub(super) async fn demo(shop: &Arc<Shop>) -> Result<(), StartError> {
    if !shop.products().is_empty() {
        return Ok(());
    }
    for Demo { sku, names, descriptions, price, keys } in DEMO {
        let product = Product {
            sku: sku.to_owned(),
            name_zh: names[0].to_owned(),
            name_en: names[1].to_owned(),
            description_zh: descriptions[0].to_owned(),
            description_en: descriptions[1].to_owned(),
            price,
            currency: "CNY".to_owned(),
            tiers: Vec::new(),
            policy: Policy::default(),
        };
        let failed = |why: &str| StartError::Setup(format!("cannot write the demo product {sku}: {why}"));
        shop.put_product(product).await.map_err(|problem| failed(&problem.detail))?;
        let text: String = (0..keys).map(|_| made_up_key() + "\n").collect();
        let body = futures_util::stream::iter([Ok::<_, std::io::Error>(Bytes::from(text))]);
        let (sku, batch) = (sku.to_owned(), "demo".to_owned());
        let shelf = Shelf { sku, batch, source: Source::Import, state: State::Free };
        let (reports, mut last) = mpsc::channel(16);
        tokio::spawn(import::run(Arc::clone(shop), shelf, Dedupe::Reject, body, reports));
        while let Some(report) = last.recv().await {
            if let Some(why) = report.aborted {
                return Err(failed(why));
            }
        }
    }
    Ok(())
}

/// Four groups of five letters: 100 random bits, so two equal ones will not be seen.
fn made_up_key() -> String {
    let mut rng = rand::rng();
    let mut group = || -> String { (0..5).map(|_| char::from(LETTERS[rng.random_range(0..LETTERS.len())])).collect() };
    [group(), group(), group(), group()].join("-")
}
