//! What a waiting room shows, as it stands in the file: its page, its events, where its public side is.

use schemars::JsonSchema;
use serde::Deserialize;

use super::placed::At;

/// A language of the page.
#[derive(Clone, Copy, Default, PartialEq, Eq, Deserialize, JsonSchema)]
pub(super) enum LanguageFile {
    /// English.
    #[default]
    #[serde(rename = "en")]
    En,
    /// Chinese in simplified characters.
    #[serde(rename = "zh-CN")]
    ZhCn,
    /// Chinese in traditional characters.
    #[serde(rename = "zh-TW")]
    ZhTw,
    /// Japanese.
    #[serde(rename = "ja")]
    Ja,
    /// Korean.
    #[serde(rename = "ko")]
    Ko,
}

/// `sse:` (server-sent events).
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub(super) struct SseFile {
    /// Whether there are any (default true).
    pub(super) enabled: bool,
    /// They are for those with fewer people before them (default 5000; 1 to 100000000). Others poll.
    pub(super) below_position: At<u64>,
    /// Connections at once (default 5000; 1 to 1000000), some 50 KiB of memory each. Whoever comes then polls.
    pub(super) max_connections: At<u64>,
}

impl Default for SseFile {
    fn default() -> Self {
        Self { enabled: true, below_position: 5_000.into(), max_connections: 5_000.into() }
    }
}

pub(super) fn room_path() -> At<String> {
    "/.tidegate/wr".to_owned().into()
}
