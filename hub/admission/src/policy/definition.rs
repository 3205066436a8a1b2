//! Admission policies: what a ValidatingAdmissionPolicy and a MutatingAdmissionPolicy have in common.
//!
//! Guarantees:
//! - a policy is compiled in a turn of its own cluster, so that neither who writes nor the hub's start waits for it
//!   (`a_policy_is_compiled_when_it_is_first_asked`).

use std::sync::{Arc, OnceLock};

use freewheel_hub_cel::{Expression, Known, Variables, known};
use serde_json::Value;

use crate::conditions::Conditions;
use crate::selection::Selection;

/// Which of the two a policy is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Purpose {
    Validating,
    Mutating,
}

/// An expression, or why it is none.
pub(super) type Compiled = Result<Expression, String>;

/// A policy.
#[derive(Debug)]
pub(crate) struct Policy {
    pub(crate) name: String,
    pub(crate) selection: Selection,
    /// What cannot be decided is refused.
    pub(super) fails: bool,
    /// `apiVersion` and `kind` of its parameters.
    pub(super) params: Option<(String, String)>,
    pub(super) conditions: Conditions,
    /// It wants to be asked again when others change what it saw.
    pub(super) reinvoked: bool,
    purpose: Purpose,
    /// JSON of its `spec`.
    said: Box<str>,
    rules: OnceLock<Rules>,
}

/// What a policy says, compiled.
#[derive(Debug)]
pub(super) struct Rules {
    pub(super) variables: Variables,
    pub(super) validations: Vec<Validation>,
    pub(super) annotations: Vec<(String, String, Compiled)>,
    pub(super) mutations: Vec<Mutation>,
}

#[derive(Debug)]
pub(super) struct Validation {
    pub(super) expression: Compiled,
    pub(super) text: String,
    pub(super) message: String,
    pub(super) message_expression: Option<Expression>,
    pub(super) reason: String,
}

/// What a policy changes.
#[derive(Debug)]
pub(super) enum Mutation {
    Apply(Compiled),
    Patch(Compiled),
}

/// Where a policy holds.
#[derive(Debug)]
pub(crate) struct Binding {
    pub(super) name: String,
    pub(crate) policy: String,
    pub(super) param: Option<Value>,
    pub(super) selection: Selection,
    pub(super) actions: Vec<String>,
}

/// A policy that is asked.
#[derive(Debug)]
pub(crate) struct Hook {
    pub(crate) policy: Arc<Policy>,
    pub(crate) bindings: Vec<Arc<Binding>>,
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}

fn list(value: &Value) -> impl Iterator<Item = &Value> {
    value.as_array().into_iter().flatten()
}

/// Reads the expressions of one policy.
struct Compiler {
    has_params: bool,
    mutates: bool,
    variables: Variables,
}

impl Compiler {
    fn of(spec: &Value, purpose: Purpose) -> Self {
        let has_params = spec.get("paramKind").is_some_and(|params| !params.is_null());
        let mut variables = Variables::default();
        for variable in list(&spec["variables"]) {
            let (name, text) = (text(&variable["name"]), text(&variable["expression"]));
            // Whoever asks for it is told what is wrong with it.
            drop(variables.add(&name, &text, known(has_params, true)));
        }
        Self { has_params, mutates: purpose == Purpose::Mutating, variables }
    }

    /// One that may ask what people may do, or not.
    fn read(&self, expression: &Value, authorizer: bool) -> Compiled {
        let names = known(self.has_params, authorizer);
        let known = Known { names, makes_objects: self.mutates, ..Known::default() };
        let read = self.variables.read(expression.as_str().unwrap_or_default(), &known);
        read.map_err(|why| why.to_string())
    }

    fn validation(&self, validation: &Value) -> Validation {
        let message = validation.get("messageExpression").filter(|message| !message.is_null());
        Validation {
            expression: self.read(&validation["expression"], true),
            text: text(&validation["expression"]).trim().to_owned(),
            message: text(&validation["message"]).trim().to_owned(),
            message_expression: message.and_then(|message| self.read(message, false).ok()),
            reason: text(&validation["reason"]),
        }
    }

    fn mutation(&self, mutation: &Value) -> Mutation {
        if mutation["patchType"] == "JSONPatch" {
            Mutation::Patch(self.read(&mutation["jsonPatch"]["expression"], true))
        } else {
            Mutation::Apply(self.read(&mutation["applyConfiguration"]["expression"], true))
        }
    }
}

impl Policy {
    /// From what was written.
    pub(crate) fn read(body: &Value, purpose: Purpose) -> Self {
        let spec = &body["spec"];
        let params = spec.get("paramKind").filter(|params| !params.is_null());
        Self {
            name: text(&body["metadata"]["name"]),
            selection: Selection::of_policy(spec.get("matchConstraints")),
            fails: spec["failurePolicy"] != "Ignore",
            params: params.map(|params| (text(&params["apiVersion"]), text(&params["kind"]))),
            conditions: Conditions::read(spec, params.is_some()),
            reinvoked: spec["reinvocationPolicy"] == "IfNeeded",
            purpose,
            said: spec.to_string().into(),
            rules: OnceLock::new(),
        }
    }

    /// What it says. To be asked where there is room for an evaluation.
    pub(super) fn rules(&self) -> &Rules {
        // Our own text, so it parses.
        let said = || serde_json::from_str(&self.said).unwrap_or_default();
        self.rules.get_or_init(|| Rules::read(&said(), self.purpose))
    }
}

impl Rules {
    fn read(spec: &Value, purpose: Purpose) -> Self {
        let compiler = Compiler::of(spec, purpose);
        let annotation = |annotation: &Value| {
            let value = &annotation["valueExpression"];
            (text(&annotation["key"]), text(value), compiler.read(value, false))
        };
        Self {
            validations: list(&spec["validations"]).map(|it| compiler.validation(it)).collect(),
            annotations: list(&spec["auditAnnotations"]).map(annotation).collect(),
            mutations: list(&spec["mutations"]).map(|it| compiler.mutation(it)).collect(),
            variables: compiler.variables,
        }
    }
}

impl Binding {
    /// From what was written.
    pub(crate) fn read(body: &Value) -> Self {
        let spec = &body["spec"];
        Self {
            name: text(&body["metadata"]["name"]),
            policy: text(&spec["policyName"]),
            param: spec.get("paramRef").filter(|param| !param.is_null()).cloned(),
            selection: Selection::of_policy(spec.get("matchResources")),
            actions: list(&spec["validationActions"]).map(text).collect(),
        }
    }
}

#[cfg(test)]
mod tests {
    use freewheel_hub_cel::{STACK_BYTES, on_a_stack_of};
    use serde_json::json;

    use super::*;

    #[test]
    fn a_policy_is_compiled_when_it_is_first_asked() {
        let policy = json!({"metadata": {"name": "p"}, "spec": {"validations": [{"expression": "true"}, {"expression": "tr("}]}});
        let policy = Policy::read(&policy, Purpose::Validating);
        assert!(policy.rules.get().is_none());
        let right = || policy.rules().validations.iter().map(|it| it.expression.is_ok()).collect();
        assert_eq!(on_a_stack_of(STACK_BYTES, right), Ok(vec![true, false]));
    }
}
