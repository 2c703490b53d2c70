//! Kinds of filters that are only settings: what a file's check needs of them.

use std::num::NonZeroU32;
use std::sync::Arc;

use schemars::JsonSchema;
use serde::Deserialize;
use tidegate_filters::engine::{
    BuildContext, BuildError, CheckContext, Filter, FilterSpec, Kinds, Problems, Rate, Step,
};

/// Shaped like the real one: a list of structs with units and names in them.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Limit {
    policies: Vec<Policy>,
}

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Policy {
    name: String,
    rate: Rate,
    #[serde(default)]
    key: Option<String>,
    #[serde(default)]
    burst: Option<NonZeroU32>,
}

impl FilterSpec for Limit {
    fn step(&self) -> Step {
        Step::Limit
    }

    fn check(&self, cx: &CheckContext<'_>, problems: &mut Problems) {
        if self.policies.is_empty() {
            problems.add("policies", "at least one policy is needed");
        }
        for (at, policy) in self.policies.iter().enumerate() {
            if let Some(key) = policy.key.as_ref().filter(|key| !cx.identities.contains(key)) {
                let known = cx.identities.join(", ");
                let message = format!("policy `{}`: no identity is named `{key}`", policy.name);
                problems.add_with_help(format!("policies[{at}].key"), message, format!("there are {known}"));
            }
            if policy.burst.is_some_and(|burst| burst < policy.rate.count) {
                problems.add(format!("policies[{at}].burst"), "the burst is below the rate");
            }
        }
    }

    fn build(&self, _: &mut BuildContext<'_>) -> Result<Arc<dyn Filter>, BuildError> {
        Err(BuildError("only settings".to_owned()))
    }
}

macro_rules! empty_kind {
    ($name:ident, $step:ident) => {
        #[derive(Debug, Deserialize, JsonSchema)]
        #[serde(deny_unknown_fields)]
        struct $name {}

        impl FilterSpec for $name {
            fn step(&self) -> Step {
                Step::$step
            }

            fn check(&self, _: &CheckContext<'_>, _: &mut Problems) {}

            fn build(&self, _: &mut BuildContext<'_>) -> Result<Arc<dyn Filter>, BuildError> {
                Err(BuildError("only settings".to_owned()))
            }
        }
    };
}

empty_kind!(Queue, Wait);
empty_kind!(Guard, Guard);
empty_kind!(Headers, Anywhere);

pub(super) fn test_kinds() -> Kinds {
    Kinds::empty()
        .register::<Limit>("rate_limit")
        .register::<Queue>("queue")
        .register::<Guard>("guard")
        .register::<Headers>("headers")
        .register::<tidegate_filters::respond_async::RespondAsync>("respond_async")
        .register::<tidegate_filters::waiting_room::WaitingRoom>("waiting_room")
}
