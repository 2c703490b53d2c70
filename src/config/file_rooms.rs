//! `waiting_rooms` and `waiting_room_keys` as they stand in the file. Names are those that other waiting rooms use.

use std::path::PathBuf;
use std::time::Duration;

use schemars::JsonSchema;
use serde::Deserialize;
use tidegate_filters::engine::TimeSpan;

use super::file::seconds;
use super::file_admission::{AdmissionFile, CapFile};
use super::file_page::{LanguageFile, SseFile};
use super::moment::MomentFile;
use super::placed::At;
use super::session::SessionFile;

/// A waiting room. Routes use it as `{waiting_room: <name>}`.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct RoomFile {
    /// Its name; unique. It is the room's identity: another name is another line.
    pub(super) name: At<String>,
    /// For people who read the file.
    #[serde(default)]
    #[serde(rename = "description")]
    pub(super) _description: Option<String>,
    /// Whether the room is out of the way: everybody passes (default false).
    #[serde(default)]
    pub(super) suspended: bool,
    /// Whether everybody new waits, whatever is free (default false).
    #[serde(default)]
    pub(super) queue_all: bool,
    /// Who gets a free place: `fifo` (default), `random`; `passthrough`: everybody; `reject`: nobody waits.
    #[serde(default)]
    pub(super) queueing_method: MethodFile,
    /// People inside at once, those included whose turn it is; at least 1.
    pub(super) total_active_users: At<u64>,
    /// People admitted in any 60 seconds; at least 1.
    pub(super) new_users_per_minute: At<u64>,
    /// How long a visit lasts without a request (default 5m; 1s to 1d). A bare number counts minutes.
    #[serde(default = "five_minutes")]
    pub(super) session_duration: At<SessionFile>,
    /// Whether a visit ends after `session_duration` in any case (default false).
    #[serde(default)]
    pub(super) disable_session_renewal: bool,
    /// Whether a program is told where it stands, not only when to come back (default true).
    #[serde(default = "yes")]
    pub(super) json_response_enabled: bool,
    /// Status of the answer to those who wait: 200, 202, 429 or 503 (default: 200 for pages, 503 for programs).
    #[serde(default)]
    pub(super) queueing_status_code: Option<At<u64>>,
    /// Last part of the cookie's name (default: the room's name).
    #[serde(default)]
    pub(super) cookie_suffix: Option<At<String>>,
    /// Attributes of the cookie.
    #[serde(default)]
    pub(super) cookie_attributes: CookieFile,
    /// How often a page without scripts looks (default 20s; 5s to 5m).
    #[serde(default = "twenty_seconds")]
    pub(super) refresh_interval: At<TimeSpan>,
    /// What the backend may say about a visit in `X-Tidegate-Waiting-Room` (default: nothing).
    #[serde(default)]
    pub(super) enabled_origin_commands: Vec<CommandFile>,
    /// Requests that are never held up.
    #[serde(default)]
    pub(super) rules: Vec<At<RuleFile>>,
    /// Events; they do not overlap.
    #[serde(default)]
    pub(super) events: Vec<At<EventFile>>,
    /// Who is silent for this long counts as gone, at the latest (default 5m; 10s to 1h).
    #[serde(default = "grace")]
    pub(super) queue_grace: At<TimeSpan>,
    /// How long a turn lasts (default 60s; 1s to 1h).
    #[serde(default = "a_minute")]
    pub(super) claim_window: At<TimeSpan>,
    /// What becomes of a missed turn: `front` (default): the next free place, once; `back`; `expire`.
    #[serde(default)]
    pub(super) missed_policy: MissedFile,
    /// People in line at most (default 2000000; 1 to 100000000).
    #[serde(default = "two_million")]
    pub(super) max_queue_length: At<u64>,
    /// What happens beyond: `reject` (default) or `random_drop`.
    #[serde(default)]
    pub(super) overflow: OverflowFile,
    /// Bounds admissions in all by what there is to sell (default: no bound).
    #[serde(default)]
    pub(super) admission_cap: Option<At<CapFile>>,
    /// Lets admissions follow how the upstream does (default: they do not).
    #[serde(default)]
    pub(super) admission_control: Option<At<AdmissionFile>>,
    /// Who may have a place; others are refused before they get a number (default: everybody).
    #[serde(default)]
    pub(super) eligibility: Option<At<EligibilityFile>>,
    /// Who visitors are (default: nobody in particular).
    #[serde(default)]
    pub(super) identity: Option<At<RoomIdentityFile>>,
    /// How often clients look.
    #[serde(default)]
    pub(super) polling: At<PollingFile>,
    /// The page that people wait on: an HTML file with placeholders (default: the gateway's own, which
    /// `tidegate waiting-room page` prints). Known are `lang title headline detail room state message ahead unit wait number
    /// serving pace hidden refresh without_script languages document style script words`, each in double braces, and
    /// `t.NAME` for the gateway's own words. Scripts and styles stand in the page itself.
    #[serde(default)]
    pub(super) custom_page_html: Option<At<PathBuf>>,
    /// Language of the page for those whose browser prefers none of its languages (default `en`).
    #[serde(default)]
    pub(super) default_template_language: LanguageFile,
    /// Events pushed to those who are near the front.
    #[serde(default)]
    pub(super) sse: At<SseFile>,
    /// Other products whose clients are understood: `cloudflare`.
    #[serde(default)]
    pub(super) compat: Vec<CompatFile>,
}

fn yes() -> bool {
    true
}

fn five_minutes() -> At<SessionFile> {
    SessionFile(Duration::from_secs(300)).into()
}

fn twenty_seconds() -> At<TimeSpan> {
    seconds(20)
}

fn grace() -> At<TimeSpan> {
    seconds(300)
}

fn a_minute() -> At<TimeSpan> {
    seconds(60)
}

fn two_million() -> At<u64> {
    2_000_000.into()
}

macro_rules! words {
    ($(#[$doc:meta])* $name:ident { $($(#[$variant_doc:meta])* $variant:ident),+ }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Default, PartialEq, Eq, Deserialize, JsonSchema)]
        #[serde(rename_all = "snake_case")]
        pub(super) enum $name { #[default] $($(#[$variant_doc])* $variant),+ }
    };
}

words!(
    /// Who gets a free place.
    MethodFile {
        /// The lowest number.
        Fifo,
        /// Anybody who waits, each with the same chance.
        Random,
        /// Everybody, at once.
        Passthrough,
        /// Nobody waits.
        Reject
    }
);
words!(
    /// What becomes of a missed turn.
    MissedFile {
        /// The next free place, once.
        Front,
        /// A new number at the end.
        Back,
        /// The number is void.
        Expire
    }
);
words!(
    /// What happens when the line is full.
    OverflowFile {
        /// Newcomers are refused.
        Reject,
        /// Chance decides between newcomers and those in line.
        RandomDrop
    }
);
words!(
    /// When cookies are `Secure`.
    SecureFile {
        /// Over TLS.
        Auto,
        /// Always.
        Always,
        /// Never.
        Never
    }
);
words!(
    /// `SameSite` of cookies.
    SameSiteFile {
        /// `Lax`.
        Auto,
        /// `Lax`.
        Lax,
        /// `Strict`.
        Strict,
        /// `None`.
        None
    }
);
words!(
    /// What the backend may say about a visit.
    CommandFile {
        /// It is over.
        Revoke,
        /// It lasts longer.
        Extend,
        /// It is kept for a payment.
        Hold,
        /// The visitor is done.
        Complete,
        /// Nothing is left, or something is `available` again; `available=37` says how much.
        SoldOut
    }
);
words!(
    /// A product whose clients are understood.
    CompatFile {
        /// Cloudflare Waiting Room.
        Cloudflare
    }
);
words!(
    /// What a rule does.
    ActionFile {
        /// The request passes and is not counted.
        BypassWaitingRoom
    }
);

/// `cookie_attributes:`
#[derive(Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub(super) struct CookieFile {
    /// `auto` (default: lax), `lax`, `strict` or `none`.
    pub(super) samesite: SameSiteFile,
    /// `auto` (default: over TLS), `always` or `never`.
    pub(super) secure: SecureFile,
}

/// A rule.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct RuleFile {
    /// What metrics and operators know it by (default `rule-1` and so on).
    #[serde(default)]
    pub(super) description: Option<String>,
    /// `bypass_waiting_room`.
    #[serde(rename = "action")]
    pub(super) _action: ActionFile,
    /// For which requests, in CEL. With `path_case: insensitive`, `request.path` is in lower case here.
    pub(super) expression: At<String>,
    /// Whether it holds (default true).
    #[serde(default = "yes")]
    pub(super) enabled: bool,
}

/// An event, with what is different while it lasts.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct EventFile {
    /// Its name; unique in its room.
    pub(super) name: At<String>,
    /// From here on people are collected and nobody is admitted (default: not before it starts).
    #[serde(default)]
    pub(super) prequeue_start_time: Option<At<MomentFile>>,
    /// Its start.
    pub(super) event_start_time: At<MomentFile>,
    /// Its end, at least a minute after its start.
    pub(super) event_end_time: At<MomentFile>,
    /// Whether those collected before the start are put into an order drawn by chance (default false).
    #[serde(default)]
    pub(super) shuffle_at_event_start: bool,
    /// Another `queueing_method`.
    #[serde(default)]
    pub(super) queueing_method: Option<MethodFile>,
    /// Another `total_active_users`; only together with `new_users_per_minute`.
    #[serde(default)]
    pub(super) total_active_users: Option<At<u64>>,
    /// Another `new_users_per_minute`; only together with `total_active_users`.
    #[serde(default)]
    pub(super) new_users_per_minute: Option<At<u64>>,
    /// Another `session_duration`.
    #[serde(default)]
    pub(super) session_duration: Option<At<SessionFile>>,
    /// Another `disable_session_renewal`.
    #[serde(default)]
    pub(super) disable_session_renewal: Option<bool>,
    /// Another `queue_all`.
    #[serde(default)]
    pub(super) queue_all: Option<bool>,
    /// Another `suspended`.
    #[serde(default)]
    pub(super) suspended: Option<bool>,
}

/// `identity:` of a room.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct RoomIdentityFile {
    /// Names of identities: the first that a request has says who it is. One person has one place on all devices.
    pub(super) from: At<Vec<At<String>>>,
}

/// `eligibility:` of a room.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct EligibilityFile {
    /// A condition on the request, in CEL, such as `identity.user != ""`; where it does not hold there is no place.
    pub(super) expression: At<String>,
}

/// `polling:` clients are asked to look after the wait that is left, divided by `divisor`, within bounds.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub(super) struct PollingFile {
    /// At most this often (default 2s; 500ms to 10m).
    pub(super) min: At<TimeSpan>,
    /// At least this often (default 60s; `min` to 10m).
    pub(super) max: At<TimeSpan>,
    /// So many looks in the time that is left (default 5; 1 to 100).
    pub(super) divisor: At<u64>,
    /// How long a look at `status` may wait for news with `Prefer: wait` (default 25s; 0s, not at all, to 60s).
    pub(super) max_wait: At<TimeSpan>,
    /// So many looks may wait at once (default 10000).
    pub(super) max_waiting: At<u64>,
}

impl Default for PollingFile {
    fn default() -> Self {
        Self { min: seconds(2), max: seconds(60), divisor: 5.into(), max_wait: seconds(25), max_waiting: 10_000.into() }
    }
}

/// A key that tokens are signed with. Exactly one of `secret` and `secret_file` is given: 64 hexadecimal digits.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct RoomKeyFile {
    /// Its number, in every token that it signs; 0 to 255, unique.
    pub(super) kid: At<u64>,
    /// The secret as `${NAME}`.
    #[serde(default)]
    pub(super) secret: Option<At<String>>,
    /// File that holds the secret, relative to the configuration file; mode 0640 at most.
    #[serde(default)]
    pub(super) secret_file: Option<At<PathBuf>>,
    /// It signs from here on (default: always).
    #[serde(default)]
    pub(super) not_before: Option<At<MomentFile>>,
    /// It verifies until here (default: as long as it stands here).
    #[serde(default)]
    pub(super) not_after: Option<At<MomentFile>>,
}
