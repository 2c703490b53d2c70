//! The words of reconciliation: channels, categories, items.

use std::fmt;
use std::str::FromStr;

/// A channel whose bills can be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Channel {
    /// Alipay.
    Alipay,
    /// WeChat Pay.
    Wechat,
}

impl Channel {
    /// All of them.
    pub const ALL: [Self; 2] = [Self::Alipay, Self::Wechat];

    /// The word for it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Alipay => "alipay",
            Self::Wechat => "wechat",
        }
    }
}

impl FromStr for Channel {
    type Err = String;

    fn from_str(word: &str) -> Result<Self, String> {
        let known = Self::ALL.into_iter().find(|channel| channel.as_str() == word);
        known.ok_or_else(|| "the channels with bills are alipay and wechat".to_owned())
    }
}

impl fmt::Display for Channel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}
