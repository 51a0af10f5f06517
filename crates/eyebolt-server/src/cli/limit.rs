//! Limits as they are written on the command line.

use eyebolt_types::{LimitOverrides, Limits, Policy};

/// What a limit becomes.
#[derive(Debug, Clone, Copy)]
enum Becomes {
    Limit(u64),
    Unlimited,
    AsPlanned,
}

/// One limit and what it becomes.
#[derive(Debug, Clone, Copy)]
pub(super) struct LimitChoice(Policy, Becomes);

/// `requests_per_minute=600`, `=none` or `=default`.
pub(super) fn limit(text: &str) -> Result<LimitChoice, String> {
    let (name, value) = text.split_once('=').ok_or("it is POLICY=LIMIT, such as requests_per_minute=600")?;
    let known = || Policy::ALL.map(Policy::name).join(", ");
    let policy = name.parse().map_err(|_| format!("limits are {}", known()))?;
    let becomes = match value {
        "default" => Becomes::AsPlanned,
        "none" => Becomes::Unlimited,
        number => Becomes::Limit(number.parse().map_err(|_| "a limit is a whole number, none or default")?),
    };
    Ok(LimitChoice(policy, becomes))
}

/// The same of a key, which has no plan.
pub(super) fn limit_of_key(text: &str) -> Result<LimitChoice, String> {
    match limit(text)? {
        LimitChoice(_, Becomes::AsPlanned) => {
            Err("a key has no plan: it is a whole number or none".to_owned())
        }
        choice => Ok(choice),
    }
}

/// A project's own limits with these choices.
pub(super) fn changed(mut limits: LimitOverrides, choices: Vec<LimitChoice>) -> LimitOverrides {
    for LimitChoice(policy, becomes) in choices {
        match becomes {
            Becomes::Limit(limit) => limits.0.insert(policy, Some(limit)),
            Becomes::Unlimited => limits.0.insert(policy, None),
            Becomes::AsPlanned => limits.0.remove(&policy),
        };
    }
    limits
}

/// A key's limits with these choices.
pub(super) fn changed_of_key(mut limits: Limits, choices: Vec<LimitChoice>) -> Limits {
    for LimitChoice(policy, becomes) in choices {
        match becomes {
            Becomes::Limit(limit) => limits.0.insert(policy, limit),
            Becomes::Unlimited | Becomes::AsPlanned => limits.0.remove(&policy),
        };
    }
    limits
}
