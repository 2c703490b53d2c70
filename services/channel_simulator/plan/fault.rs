//! One fault as it is written in a plan, and what of it makes no sense.

use serde::{Deserialize, Serialize};

use super::is_code;
use super::kind::{Kind, Level};
use super::moment::Moment;

/// Longest slow body, and longest processing: ten minutes.
const MAX_MS: u32 = 600_000;

/// What a caller wants.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(in crate::channel_simulator) enum Step {
    /// Create a payment.
    Create,
    /// The buyer agrees.
    Confirm,
    /// Ask where it stands.
    Query,
    /// Give it up.
    Close,
    /// Pay it back.
    Refund,
    /// Any of these.
    Any,
}

impl Step {
    /// Its name in a plan.
    pub(in crate::channel_simulator) fn name(self) -> &'static str {
        match self {
            Self::Create => "create",
            Self::Confirm => "confirm",
            Self::Query => "query",
            Self::Close => "close",
            Self::Refund => "refund",
            Self::Any => "any",
        }
    }
}

/// A fault and to whom it happens. Selectors that are absent select everything; those that are there must all agree.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(in crate::channel_simulator) struct Fault {
    /// What goes wrong.
    pub(in crate::channel_simulator) kind: Kind,
    /// Share of payments, 0 to 1, chosen by the seed; for faults of connections a share of those.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) ratio: Option<f64>,
    /// These payments.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(super) numbers: Vec<String>,
    /// Payments of this scene.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) scene: Option<String>,
    /// This step only.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) on: Option<Step>,
    /// From here.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) from: Option<Moment>,
    /// Until before here.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) to: Option<Moment>,
    /// The nth call, or connection, of those that the other selectors choose, counted from 1 since the plan is in force.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) nth: Option<u64>,
    /// So often and not more.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) times: Option<u64>,
    /// For `rst_after_n_bytes` and `truncate`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(in crate::channel_simulator) bytes: Option<u64>,
    /// For `slow_body` and `processing_then_…`: how long it takes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(in crate::channel_simulator) ms: Option<u32>,
    /// Reason of a decline; for `goaway` the error code in decimal.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(in crate::channel_simulator) code: Option<String>,
    /// For `blackhole`: connections come about, and nothing is read.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub(in crate::channel_simulator) accept: bool,
}

impl Fault {
    /// What makes no sense, beginning with the name of the member.
    pub(super) fn check(&self) -> Result<(), String> {
        if self.ratio.is_some_and(|share| !(0.0..=1.0).contains(&share)) {
            return Err("ratio must be 0 to 1".to_owned());
        }
        for (name, count) in [("nth", self.nth), ("times", self.times), ("bytes", self.bytes)] {
            if count == Some(0) {
                return Err(format!("{name} must be at least 1"));
            }
        }
        if self.ms.is_some_and(|ms| ms > MAX_MS) {
            return Err(format!("ms must be at most {MAX_MS}"));
        }
        self.check_window()?;
        self.check_selectors()?;
        self.check_parameters()
    }

    fn check_window(&self) -> Result<(), String> {
        match (self.from, self.to) {
            (Some(Moment::After(from)), Some(Moment::After(to))) if from >= to => {
                Err("to must come after from".to_owned())
            }
            (Some(Moment::Daily(from)), Some(Moment::Daily(to))) if from == to => {
                Err("to must be another time of day than from".to_owned())
            }
            (Some(Moment::After(_)), Some(Moment::Daily(_))) | (Some(Moment::Daily(_)), Some(Moment::After(_))) => {
                Err("to must be of the same sort as from: both milliseconds or both times of day".to_owned())
            }
            // Nobody could end it: the interface for tests is behind the same listener.
            (_, None) if self.kind.level() == Level::Door => {
                Err(format!("to is missing: {} must come to an end", self.kind.name()))
            }
            _ => Ok(()),
        }
    }

    fn check_selectors(&self) -> Result<(), String> {
        let name = self.kind.name();
        let seen = [
            ("numbers", !self.numbers.is_empty(), Level::Request),
            ("scene", self.scene.is_some(), Level::Request),
            ("on", self.on.is_some_and(|step| step != Step::Any), Level::Request),
            ("ratio", self.ratio.is_some(), Level::Connection),
            ("nth", self.nth.is_some(), Level::Connection),
            ("times", self.times.is_some(), Level::Connection),
        ];
        for (member, given, least) in seen {
            let enough = match self.kind.level() {
                Level::Door => false,
                Level::Connection => least == Level::Connection,
                Level::Request => true,
            };
            if given && !enough {
                return Err(format!("{member} cannot choose: {name} happens before that much has been read"));
            }
        }
        let decides = self.kind.charges() || self.kind.decides();
        if let Some(step @ (Step::Query | Step::Close)) = self.on
            && decides
        {
            return Err(format!("on cannot be {}: {name} needs a step that moves money", step.name()));
        }
        if self.on == Some(Step::Refund) && self.kind.decides() {
            return Err(format!("on cannot be refund: {name} is about payments"));
        }
        Ok(())
    }

    fn check_parameters(&self) -> Result<(), String> {
        let name = self.kind.name();
        let takes = |member: &str| match member {
            "bytes" => matches!(self.kind, Kind::RstAfterNBytes | Kind::Truncate),
            "ms" => matches!(self.kind, Kind::SlowBody | Kind::ProcessingThenSuccess | Kind::ProcessingThenFail),
            "accept" => self.kind == Kind::Blackhole,
            _ => matches!(
                self.kind,
                Kind::DeclineHard
                    | Kind::DeclineSoft
                    | Kind::ProcessingThenFail
                    | Kind::MaintenanceWindow
                    | Kind::Goaway
            ),
        };
        let given = [
            ("bytes", self.bytes.is_some()),
            ("ms", self.ms.is_some()),
            ("accept", self.accept),
            ("code", self.code.is_some()),
        ];
        if let Some((member, _)) = given.into_iter().find(|(member, given)| *given && !takes(member)) {
            return Err(format!("{member} means nothing for {name}"));
        }
        if self.kind == Kind::RstAfterNBytes && self.bytes.is_none() {
            return Err(format!("bytes is missing: {name} needs it"));
        }
        match &self.code {
            Some(code) if self.kind == Kind::Goaway => match code.parse::<u32>() {
                Ok(_) => Ok(()),
                Err(_) => Err("code must be an HTTP/2 error code in decimal".to_owned()),
            },
            Some(code) if !is_code(code) => Err("code must be 1 to 64 of A-Z, 0-9 and _".to_owned()),
            _ => Ok(()),
        }
    }
}
