//! What Kubernetes adds to the language, and what stands in place of functions that could make too much of too little.
//!
//! ```text
//! text       charAt indexOf lastIndexOf lowerAscii upperAscii replace split join substring trim
//!            matches find findAll strings.quote
//! lists      isSorted sum min max indexOf lastIndexOf sets.contains sets.equivalent sets.intersects
//!            distinct flatten slice sort sortBy reverse first last lists.range
//! quantity, semver, ip, cidr, url, format, jsonpatch
//! authorizer what somebody may do
//! fleet      parseJSON hasConditions scores, in expressions of Open Cluster Management alone
//! ```
//!
//! Guarantees:
//! - the functions answer as kube-apiserver's do (`functions_answer_as_those_of_kubernetes`).

mod addresses;
pub(crate) mod authorizer;
pub(crate) mod fleet;
mod formats;
mod function;
mod json_patch;
mod lists;
mod metering;
mod quantities;
mod text;
mod urls;
mod versions;

use std::sync::{Arc, LazyLock};

use cel::{Context, Env, ExecutionError, FunctionContext, Value};

use crate::allowance::Allowance;
use crate::macros;
use crate::weight::of_value;
use function::{Function, Table};

static ENV: LazyLock<Arc<Env>> = LazyLock::new(|| {
    let mut env = Env::stdlib();
    macros::add(&mut env);
    Arc::new(env)
});

static TABLES: [Table; 10] = [
    addresses::FUNCTIONS,
    authorizer::FUNCTIONS,
    fleet::FUNCTIONS,
    formats::FUNCTIONS,
    json_patch::FUNCTIONS,
    lists::FUNCTIONS,
    quantities::FUNCTIONS,
    text::FUNCTIONS,
    urls::FUNCTIONS,
    versions::FUNCTIONS,
];

/// What the evaluator brings itself.
const STANDARD: [&str; 37] = [
    "size",
    "contains",
    "startsWith",
    "endsWith",
    "int",
    "uint",
    "double",
    "string",
    "bytes",
    "bool",
    "type",
    "dyn",
    "duration",
    "timestamp",
    "getFullYear",
    "getMonth",
    "getDate",
    "getDayOfMonth",
    "getDayOfWeek",
    "getDayOfYear",
    "getHours",
    "getMinutes",
    "getSeconds",
    "getMilliseconds",
    "optional.of",
    "optional.none",
    "optional.ofNonZeroValue",
    "hasValue",
    "value",
    "or",
    "orValue",
    "optMap",
    "optFlatMap",
    "matches",
    "has",
    "optional.unwrap",
    macros::MAP_INSERT,
];

const TYPES: [&str; 15] = [
    "int",
    "uint",
    "double",
    "string",
    "bytes",
    "bool",
    "list",
    "map",
    "null_type",
    "type",
    "dyn",
    "optional_type",
    "google",
    "timestamp",
    "duration",
];

/// The language.
pub(super) fn env() -> Arc<Env> {
    ENV.clone()
}

/// Whether there is such a function.
pub(super) fn is_function(name: &str) -> bool {
    let operator = name.starts_with(['_', '@', '!', '-']);
    operator || STANDARD.contains(&name) || is_added(name)
}

/// Whether it is one that expressions of the fleet alone have, and how those say it: behind a value, or with all in brackets.
pub(super) fn of_fleet(name: &str) -> Option<bool> {
    let is_there = fleet::FUNCTIONS.iter().any(|(own, _)| *own == name);
    is_there.then(|| fleet::BEHIND_A_VALUE.contains(&name))
}

/// Whether it is one of those that Kubernetes adds: they count what they are asked about, and what they make.
pub(super) fn is_added(name: &str) -> bool {
    added().any(|own| own == name)
}

/// The names of those.
pub(super) fn added() -> impl Iterator<Item = &'static str> {
    TABLES.iter().flat_map(|table| table.iter()).map(|(name, _)| *name)
}

/// Whether a name is a type's.
pub(super) fn is_type(name: &str) -> bool {
    TYPES.contains(&name)
}

/// Adds what is not the evaluator's own; all of it uses this allowance.
pub(super) fn add(context: &mut Context<'_, '_>, allowance: &Arc<Allowance>) {
    for (name, function) in TABLES.iter().flat_map(|table| table.iter()) {
        let allowance = allowance.clone();
        let run = move |call: &FunctionContext<'_, '_>| answer(*function, call, &allowance);
        // The evaluator has none of these names.
        let _ = context.add_function(name, run);
    }
    metering::add(context, allowance);
}

fn answer(
    function: Function,
    call: &FunctionContext<'_, '_>,
    allowance: &Allowance,
) -> Result<Value, ExecutionError> {
    let all = || call.this.iter().chain(&call.args);
    if !all().all(|value| allowance.weigh(value.as_ref()).is_some()) {
        return Err(call.error("too much work"));
    }
    let values = all().map(|value| Value::try_from(value.as_ref()));
    let values = values.collect::<Result<Vec<Value>, ExecutionError>>()?;
    let made = function(&values, allowance).map_err(|why| call.error(why))?;
    let bytes = of_value(&made);
    if !allowance.walk(bytes) || !allowance.make(bytes) {
        return Err(call.error("too much work"));
    }
    Ok(made)
}
