//! What the expressions of one request see: values by name, and expressions that others use (`variables.NAME`), which
//! are evaluated when somebody asks for them, and once.
//!
//! Guarantees:
//! - what nobody asks for is not evaluated (`a_variable_is_evaluated_when_it_is_asked_for_and_once`);
//! - a chain of them is no deeper than one expression may be (`a_chain_of_variables_is_bounded`);
//! - one that has another's name uses the other, and never itself (`a_variable_of_a_name_uses_those_before_it`).

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, OnceLock};

use cel::Value;
use cel::common::value::{CowVal, Val};
use cel::context::VariableResolver;
use parking_lot::Mutex;
use serde_json::Value as Json;

use crate::allowance::Allowance;
use crate::expression::{Expression, Known};
use crate::failed::Failed;
use crate::meter::{self, Meter};
use crate::parts::DEPTH_MAX;
use crate::unread::Unread;
use crate::value::free;
use crate::weight::of_value;

/// Levels that a variable takes beside those of its expression.
const HOP_DEPTH: usize = 8;

/// What expressions of admission may speak of: with parameters, and with what people may do.
#[must_use]
pub const fn known(params: bool, authorizer: bool) -> &'static [&'static str] {
    const ALL: &[&str] =
        &["object", "oldObject", "request", "namespaceObject", "variables", "params", "authorizer"];
    const WITHOUT_PARAMS: &[&str] =
        &["object", "oldObject", "request", "namespaceObject", "variables", "authorizer"];
    match (params, authorizer) {
        (true, true) => ALL,
        (true, false) => ALL.split_at(6).0,
        (false, true) => WITHOUT_PARAMS,
        (false, false) => WITHOUT_PARAMS.split_at(5).0,
    }
}

/// Values by name. They are made when they are first asked for.
#[derive(Default)]
pub struct Scope {
    values: BTreeMap<&'static str, Held>,
}

struct Held {
    json: Option<Arc<Json>>,
    made: OnceLock<Box<dyn Val>>,
}

impl Scope {
    /// One more value.
    pub fn put(&mut self, name: &'static str, value: Arc<Json>) {
        self.values.insert(name, Held { json: Some(value), made: OnceLock::new() });
    }

    /// One that is nothing in JSON.
    pub fn put_value(&mut self, name: &'static str, value: Value) {
        if let Ok(made) = Box::<dyn Val>::try_from(value) {
            self.values.insert(name, Held { json: None, made: made.into() });
        }
    }

    fn find(&self, name: &str) -> Option<&dyn Val> {
        let held = self.values.get(name)?;
        if held.made.get().is_none() {
            let made = Box::<dyn Val>::try_from(free(held.json.as_deref()?)).ok()?;
            // Another one who made it meanwhile made the same.
            let _ = held.made.set(made);
        }
        held.made.get().map(|made| &**made)
    }
}

/// Expressions that others use, each of which may use those before it.
#[derive(Debug, Default)]
pub struct Variables {
    names: Vec<String>,
    all: Vec<Result<Expression, String>>,
    /// Levels of those of each name, with those of what they use.
    depths: HashMap<String, usize>,
}

impl Variables {
    /// One more.
    ///
    /// # Errors
    /// Why it is none. It is kept all the same, and whoever asks for it fails.
    pub fn add(&mut self, name: &str, text: &str, known: &[&str]) -> Result<(), Unread> {
        let read = self.read(text, &Known { names: known, ..Known::default() });
        let failed = read.as_ref().err().cloned();
        let read = read.map_err(|why| why.to_string());
        let depth = read.as_ref().map_or(0, |read| HOP_DEPTH + self.depth_of(read));
        let deepest = self.depths.entry(name.to_owned()).or_default();
        *deepest = depth.max(*deepest);
        self.names.push(name.to_owned());
        self.all.push(read);
        failed.map_or(Ok(()), Err)
    }

    /// An expression that may use them.
    ///
    /// # Errors
    /// Why it is none.
    pub fn read(&self, text: &str, known: &Known<'_>) -> Result<Expression, Unread> {
        let expression = Expression::read(text, &Known { variables: &self.names, ..*known })?;
        if DEPTH_MAX < self.depth_of(&expression) {
            let why = "an expression may not be nested so deeply, with those that it uses";
            return Err(Unread::Wrong(why.to_owned()));
        }
        Ok(expression)
    }

    fn depth_of(&self, expression: &Expression) -> usize {
        let used = expression.variables().filter_map(|name| self.depths.get(name));
        expression.depth() + used.copied().max().unwrap_or_default()
    }
}

/// One evaluation of expressions that belong together. Goes on where there is room ([`crate::STACK_BYTES`]).
pub struct Evaluation<'a> {
    scope: &'a Scope,
    variables: &'a Variables,
    computed: Vec<OnceLock<Result<Box<dyn Val>, String>>>,
    meter: Meter,
}

impl<'a> Evaluation<'a> {
    /// With so many units for all of it.
    #[must_use]
    pub fn new(scope: &'a Scope, variables: &'a Variables, units: u64) -> Self {
        let computed = variables.all.iter().map(|_| OnceLock::new()).collect();
        Self { scope, variables, computed, meter: Meter::of(units) }
    }

    /// Whether nothing is to be evaluated any more.
    #[must_use]
    pub const fn is_spent(&self) -> bool {
        self.meter.is_spent()
    }

    /// Units that it may still use.
    #[must_use]
    pub const fn left(&self) -> u64 {
        self.meter.left()
    }

    /// The value of an expression.
    ///
    /// # Errors
    /// When it has none.
    pub fn run(&mut self, expression: &Expression) -> Result<Value, Failed> {
        let Self { scope, variables, computed, meter } = self;
        meter.counted(expression, |allowance| {
            let (allowance, failed) = (allowance.clone(), Mutex::default());
            let known = variables.names.len();
            let sight = ExpressionScope { scope, variables, known, computed, allowance, failed };
            let outcome = sight.evaluate(expression);
            match (outcome, sight.failed.into_inner()) {
                (Err(Failed::Because(_)), Some(why)) => Err(Failed::Because(why)),
                (outcome, _) => outcome,
            }
        })
    }
}

/// What one expression sees.
struct ExpressionScope<'a> {
    scope: &'a Scope,
    variables: &'a Variables,
    /// How many of the variables it knows: those that stand before it.
    known: usize,
    computed: &'a [OnceLock<Result<Box<dyn Val>, String>>],
    allowance: Arc<Allowance>,
    /// Why a variable that was asked for has no value: the evaluator only knows that it has none.
    failed: Mutex<Option<String>>,
}

impl ExpressionScope<'_> {
    fn evaluate(&self, expression: &Expression) -> Result<Value, Failed> {
        meter::evaluate(expression, &self.allowance, |context| context.set_variable_resolver(self))
    }

    fn variable(&self, name: &str) -> Option<&dyn Val> {
        let before = self.variables.names.get(..self.known)?;
        let at = before.iter().rposition(|own| own == name)?;
        let (compiled, computed) = (self.variables.all.get(at)?, self.computed.get(at)?);
        let value = computed.get_or_init(|| self.compute(name, at, compiled));
        match value {
            Ok(value) => Some(&**value),
            Err(why) => {
                *self.failed.lock() = Some(why.clone());
                None
            }
        }
    }

    /// The value of the variable at a place. It sees those before it alone, so that none ever waits for itself.
    fn compute(
        &self,
        name: &str,
        at: usize,
        compiled: &Result<Expression, String>,
    ) -> Result<Box<dyn Val>, String> {
        let expression = compiled
            .as_ref()
            .map_err(|why| format!("composited variable {name:?} fails to compile: {why}"))?;
        let failed = |why: String| format!("composited variable {name:?} fails to evaluate: {why}");
        let allowance = self.allowance.clone();
        let Self { scope, variables, computed, .. } = *self;
        let sight = ExpressionScope {
            scope,
            variables,
            known: at,
            computed,
            allowance,
            failed: Mutex::default(),
        };
        let value = match sight.evaluate(expression) {
            Ok(value) => value,
            Err(why @ (Failed::TooMuchWork | Failed::TooMuchMade)) => {
                return Err(failed(why.into_message("too much work")));
            }
            Err(Failed::Because(why)) => {
                return Err(failed(sight.failed.into_inner().unwrap_or(why)));
            }
        };
        // The allowance says that it is too much, once for all.
        if !self.allowance.keep(of_value(&value)) {
            return Err(failed("too much work".to_owned()));
        }
        Box::<dyn Val>::try_from(value).map_err(|error| failed(error.to_string()))
    }
}

impl VariableResolver for ExpressionScope<'_> {
    fn resolve<'b>(&'b self, variable: &str) -> Option<CowVal<'b, 'b>> {
        let found = match variable.strip_prefix("variables.") {
            Some(name) => self.variable(name),
            None => self.scope.find(variable),
        };
        found.map(CowVal::Borrowed)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::{STACK_BYTES, UNITS_MAX, on_a_stack_of};

    const KNOWN: &[&str] = &["object", "variables"];

    fn known() -> Known<'static> {
        Known { names: KNOWN, ..Known::default() }
    }

    fn variables(all: &[(&str, &str)]) -> Variables {
        let mut variables = Variables::default();
        for (name, text) in all {
            variables.add(name, text, KNOWN).unwrap();
        }
        variables
    }

    fn run(variables: &Variables, text: &str) -> Result<Value, Failed> {
        let mut scope = Scope::default();
        scope.put("object", Arc::new(json!({"spec": {"replicas": 3, "names": ["a", "b"]}})));
        let expression =
            variables.read(text, &known()).map_err(|why| Failed::Because(why.to_string()))?;
        on_a_stack_of(STACK_BYTES, || {
            Evaluation::new(&scope, variables, UNITS_MAX).run(&expression)
        })
        .unwrap()
    }

    #[test]
    fn a_variable_is_evaluated_when_it_is_asked_for_and_once() {
        let all = variables(&[
            ("replicas", "object.spec.replicas"),
            ("odd", "variables.replicas % 2 == 1"),
            ("broken", "object.spec.nothing"),
            ("above", "variables.broken + 1"),
        ]);
        assert_eq!(run(&all, "variables.odd && variables.replicas > 2"), Ok(Value::Bool(true)));
        assert_eq!(run(&all, "object.spec.names.all(n, variables.odd)"), Ok(Value::Bool(true)));
        assert_eq!(run(&all, "true || variables.broken == 1"), Ok(Value::Bool(true)));
        let why = "composited variable \"above\" fails to evaluate: composited variable \"broken\" fails to evaluate: no such key: nothing";
        assert_eq!(run(&all, "variables.above > 0"), Err(Failed::Because(why.to_owned())));
        let undefined = Failed::Because("undefined field 'other'".to_owned());
        assert_eq!(run(&all, "variables.other"), Err(undefined));
        assert_eq!(
            run(&all, "object.spec.names.exists(variables, variables == 'a')"),
            Ok(Value::Bool(true))
        );
    }

    #[test]
    fn a_variable_uses_those_before_it_only() {
        let mut all = Variables::default();
        assert!(all.add("a", "variables.b", KNOWN).is_err());
        assert!(all.add("b", "variables.b + 1", KNOWN).is_err());
        assert!(
            matches!(run(&all, "variables.a"), Err(Failed::Because(why)) if why.contains("fails to compile"))
        );
    }

    #[test]
    fn a_variable_of_a_name_uses_those_before_it() {
        let (told, done) = std::sync::mpsc::channel();
        // One that waits for itself never ends, and nobody could end it.
        std::thread::spawn(move || {
            let all = variables(&[("a", "1"), ("a", "variables.a + 1"), ("b", "variables.a")]);
            let _ = told.send(run(&all, "variables.a == 2 && variables.b == 2"));
        });
        let outcome = done.recv_timeout(std::time::Duration::from_secs(20));
        assert_eq!(outcome, Ok(Ok(Value::Bool(true))));
    }

    #[test]
    fn a_chain_of_variables_is_bounded() {
        let mut all = Variables::default();
        all.add("v0", "1", KNOWN).unwrap();
        let mut links = 0;
        while all.add(&format!("v{}", links + 1), &format!("variables.v{links} + 1"), KNOWN).is_ok()
        {
            links += 1;
        }
        assert!((10..DEPTH_MAX).contains(&links), "{links}");
        assert_eq!(run(&all, &format!("variables.v{} > 0", links - 1)), Ok(Value::Bool(true)));
    }
}
