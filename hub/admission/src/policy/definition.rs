//! Admission policies, compiled: what a ValidatingAdmissionPolicy and a MutatingAdmissionPolicy have in common.

use std::sync::Arc;

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
    pub(super) variables: Variables,
    pub(super) validations: Vec<Validation>,
    pub(super) annotations: Vec<(String, String, Compiled)>,
    pub(super) mutations: Vec<Mutation>,
    /// It wants to be asked again when others change what it saw.
    pub(super) reinvoked: bool,
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
        self.variables.read(expression.as_str().unwrap_or_default(), &known)
    }

    fn validation(&self, said: &Value) -> Validation {
        let message = said.get("messageExpression").filter(|message| !message.is_null());
        Validation {
            expression: self.read(&said["expression"], true),
            text: text(&said["expression"]).trim().to_owned(),
            message: text(&said["message"]).trim().to_owned(),
            message_expression: message.and_then(|message| self.read(message, false).ok()),
            reason: text(&said["reason"]),
        }
    }

    fn mutation(&self, said: &Value) -> Mutation {
        if said["patchType"] == "JSONPatch" {
            Mutation::Patch(self.read(&said["jsonPatch"]["expression"], true))
        } else {
            Mutation::Apply(self.read(&said["applyConfiguration"]["expression"], true))
        }
    }
}

impl Policy {
    /// From what was written.
    pub(crate) fn read(body: &Value, purpose: Purpose) -> Self {
        let spec = &body["spec"];
        let compiler = Compiler::of(spec, purpose);
        let params = spec.get("paramKind").filter(|params| !params.is_null());
        let annotation = |said: &Value| {
            let value = &said["valueExpression"];
            (text(&said["key"]), text(value), compiler.read(value, false))
        };
        Self {
            name: text(&body["metadata"]["name"]),
            selection: Selection::of_policy(spec.get("matchConstraints")),
            fails: spec["failurePolicy"] != "Ignore",
            params: params.map(|params| (text(&params["apiVersion"]), text(&params["kind"]))),
            conditions: Conditions::read(spec, compiler.has_params),
            validations: list(&spec["validations"]).map(|it| compiler.validation(it)).collect(),
            annotations: list(&spec["auditAnnotations"]).map(annotation).collect(),
            mutations: list(&spec["mutations"]).map(|it| compiler.mutation(it)).collect(),
            reinvoked: spec["reinvocationPolicy"] == "IfNeeded",
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
