//! What a seller decides for each product: when keys are set aside, for whom, which ones, and what happens when there
//! are none.
//!
//! There is no right answer for all products. Keys set aside when an order is placed can be hoarded by people who never
//! pay; keys set aside when it is paid can be gone by then. So it is a policy, and the defaults are those of a shop
//! without attackers and with buyers it knows: set aside at once, two unpaid orders each, at most 30 % of the stock
//! unpaid. The last two need to know who buys; orders without a `principal` are not counted.

use serde::{Deserialize, Serialize};

/// Most keys one order may ever be allowed.
pub(super) const MAX_QTY: u32 = 1_000;

/// Longest a reservation may hold, in seconds.
pub(super) const MAX_TTL_SECONDS: u32 = 3_600;

/// What is sold under the SKU.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Kind {
    /// Each key goes to one order.
    #[default]
    Unique,
    /// One key goes to every order, one for each.
    Shared,
    /// No keys in stock: the seller delivers by hand after the payment.
    Manual,
}

/// When keys are set aside.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Reserve {
    /// When the order is placed.
    #[default]
    OnOrder,
    /// When it is paid: nothing can be hoarded, but a buyer who pays may come too late.
    OnPaid,
}

/// Which of the free keys an order gets.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Pick {
    /// The one imported first.
    #[default]
    Oldest,
    /// The one imported last.
    Newest,
    /// Any. Where keys are missing in between, the next one after the gap is a little likelier.
    Random,
    /// The ones the buyer names after looking at their previews; the oldest for a buyer who names none.
    Chosen,
}

/// What happens to an order that is paid when there are not enough keys.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum OnShort {
    /// The money goes back.
    #[default]
    Refund,
    /// It waits until the seller has restocked.
    Backorder,
}

/// What happens to an order that would make the unpaid share too large.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum OnHoard {
    /// It is refused and may be tried again when others have paid or given up.
    #[default]
    Refuse,
    /// It is taken, and its keys are set aside when it is paid.
    OnPaid,
}

/// The policy of one product. Members that are left out have the defaults below.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct Policy {
    pub(super) kind: Kind,
    pub(super) reserve: Reserve,
    /// Longest a reservation of this product holds, in seconds, whatever is asked for; absent: as asked for.
    pub(super) ttl_seconds: Option<u32>,
    pub(super) pick: Pick,
    /// Price of choosing, for each chosen key, in minor units.
    pub(super) surcharge: i64,
    pub(super) on_short: OnShort,
    /// Most keys in one order, 1 to 1,000; default 10. A shared product is sold one at a time.
    pub(super) max_per_order: u32,
    /// Most keys for one principal, ever; absent: any number.
    pub(super) max_per_principal: Option<u32>,
    /// Most keys for one address in 24 hours; absent: any number.
    pub(super) max_per_ip_day: Option<u32>,
    /// Unpaid orders that hold keys, of one principal in the whole shop; default 2.
    pub(super) max_open: u32,
    /// Most of the unsold keys that may be held by unpaid orders, in percent; default 30. One order is always let in.
    pub(super) max_unpaid_percent: u32,
    pub(super) on_hoard: OnHoard,
}

impl Default for Policy {
    fn default() -> Self {
        Self {
            kind: Kind::default(),
            reserve: Reserve::default(),
            ttl_seconds: None,
            pick: Pick::default(),
            surcharge: 0,
            on_short: OnShort::default(),
            max_per_order: 10,
            max_per_principal: None,
            max_per_ip_day: None,
            max_open: 2,
            max_unpaid_percent: 30,
            on_hoard: OnHoard::default(),
        }
    }
}

impl Policy {
    /// # Errors
    /// Says which member makes no sense.
    pub(super) fn check(&self) -> Result<(), String> {
        let at_least_one = |limit: Option<u32>| limit.is_none_or(|limit| limit > 0);
        let rules = [
            (self.ttl_seconds.is_none_or(|ttl| (1..=MAX_TTL_SECONDS).contains(&ttl)), "ttl_seconds must be 1 to 3600"),
            ((1..=MAX_QTY).contains(&self.max_per_order), "max_per_order must be 1 to 1000"),
            (at_least_one(self.max_per_principal), "max_per_principal must be at least 1"),
            (at_least_one(self.max_per_ip_day), "max_per_ip_day must be at least 1"),
            (self.max_open > 0, "max_open must be at least 1"),
            ((1..=100).contains(&self.max_unpaid_percent), "max_unpaid_percent must be 1 to 100"),
            (self.surcharge == 0 || self.pick == Pick::Chosen, "surcharge needs pick: chosen"),
            (self.pick != Pick::Chosen || self.kind == Kind::Unique, "pick: chosen needs kind: unique"),
        ];
        rules.iter().find(|(holds, _)| !holds).map_or(Ok(()), |(_, why)| Err(format!("policy.{why}")))
    }

    /// Most keys in one order.
    pub(super) fn most(&self) -> u32 {
        if self.kind == Kind::Shared { 1 } else { self.max_per_order }
    }
}
