//! Bills, fetched from the channels themselves: asked for as a merchant, written beside their place and renamed there.

use std::collections::HashMap;
use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::Duration;

use reqwest::{Client, RequestBuilder};
use ring::digest;

use super::Merchant;
use crate::order::model::Channel as Ours;
use crate::reconciliation::Channel;
use crate::reconciliation::day::Day;
use crate::support::{StartError, hex};

/// Longest time for an answer, and between two pieces of a bill.
const TIMEOUT: Duration = Duration::from_secs(30);

/// Where a bill is, and how it is asked for.
pub(super) struct Address {
    pub(super) call: RequestBuilder,
    /// SHA-1 of the whole, in hexadecimal digits; absent where the channel gives none.
    pub(super) sha1: Option<String>,
}

/// Fetches bills as the merchant that a file says we are.
pub struct Bills {
    merchants: HashMap<Ours, Merchant>,
}

impl Bills {
    /// Reads the file that the order service has, too.
    ///
    /// # Errors
    /// [`StartError::Setup`] with what is wrong with the file.
    pub fn open(file: &Path) -> Result<Self, StartError> {
        let client = Client::builder().connect_timeout(TIMEOUT).read_timeout(TIMEOUT).no_proxy().build();
        let client = client.map_err(|error| StartError::Setup(format!("cannot make an HTTP client: {error}")))?;
        Ok(Self { merchants: super::read(file, &client, TIMEOUT)? })
    }

    /// Fetches the bill of a day into `folder` under its usual name; answers where it is.
    ///
    /// # Errors
    /// One sentence: the channel has none yet, or it came damaged.
    pub async fn fetch(&self, channel: Channel, day: Day, folder: &Path) -> Result<PathBuf, String> {
        let ours = match channel {
            Channel::Alipay => Ours::Alipay,
            Channel::Wechat => Ours::Wechat,
        };
        let address = match self.merchants.get(&ours) {
            Some(Merchant::Alipay(merchant)) if channel == Channel::Alipay => merchant.bill(day).await?,
            Some(Merchant::Wechat(merchant)) if channel == Channel::Wechat => merchant.bill(day).await?,
            _ => return Err(format!("the file of merchants has no {channel} that speaks {channel}")),
        };
        let ending = if channel == Channel::Alipay { "zip" } else { "csv" };
        let path = folder.join(format!("{channel}-{day}.{ending}"));
        std::fs::create_dir_all(folder).map_err(|error| error.to_string())?;
        let draft = path.with_extension(format!("{ending}.part"));
        download(address, &draft).await?;
        std::fs::rename(&draft, &path).map_err(|error| error.to_string())?;
        Ok(path)
    }
}

async fn download(address: Address, path: &Path) -> Result<(), String> {
    let answer = address.call.send().await.and_then(reqwest::Response::error_for_status);
    let mut answer = answer.map_err(|error| error.without_url().to_string())?;
    let mut file = File::create(path).map_err(|error| error.to_string())?;
    let mut context = digest::Context::new(&digest::SHA1_FOR_LEGACY_USE_ONLY);
    while let Some(piece) = answer.chunk().await.map_err(|error| error.without_url().to_string())? {
        context.update(&piece);
        file.write_all(&piece).map_err(|error| error.to_string())?;
    }
    file.sync_all().map_err(|error| error.to_string())?;
    let found = hex(context.finish().as_ref());
    match address.sha1 {
        Some(said) if !said.eq_ignore_ascii_case(&found) => Err("the bill came damaged: another SHA-1".to_owned()),
        _ => Ok(()),
    }
}
