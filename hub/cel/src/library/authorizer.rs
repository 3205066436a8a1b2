//! What somebody may do: `authorizer.group('apps').resource('deployments').namespace('a').check('create').allowed()`.
//! Who is asked is the caller's to say ([`Ask`]).

use std::sync::Arc;

use cel::Value;
use cel::objects::Opaque;

use super::function::{Table, added, no_overload, one, text_value};
use crate::allowance::Allowance;

/// Units that a question costs, as at kube-apiserver.
pub(crate) const QUESTION_UNITS: u64 = 350_000;

/// Knows what people may do.
pub trait Ask: Send + Sync {
    /// Whether it may be done. It may wait.
    fn ask(&self, question: &Question) -> Answer;
}

/// What is asked.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Question {
    /// Namespace and name of a service account, where another than who makes the request is asked about.
    pub account: Option<(String, String)>,
    /// Of a path that is no resource; everything else is empty then.
    pub path: Option<String>,
    /// API group.
    pub group: String,
    /// Plural resource.
    pub resource: String,
    /// Subresource.
    pub subresource: String,
    /// Namespace.
    pub namespace: String,
    /// Name.
    pub name: String,
    /// Of a collection the field selector that leaves a part of it.
    pub fields: String,
    /// The same by its labels.
    pub labels: String,
    /// Verb.
    pub verb: String,
}

/// What is answered.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Answer {
    /// It may be done.
    pub allowed: bool,
    /// Why.
    pub reason: String,
    /// Why nobody knows.
    pub error: String,
}

impl Opaque for Answer {
    fn runtime_type_name(&self) -> &str {
        "kubernetes.authorization.Decision"
    }
}

/// Whom to ask.
#[derive(Clone)]
struct Asked(Arc<dyn Ask>);

impl std::fmt::Debug for Asked {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Asked")
    }
}

impl PartialEq for Asked {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }
}

impl Eq for Asked {}

/// A question in the making: `authorizer`, and what its functions make of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Authorizer {
    asked: Asked,
    step: Step,
    question: Question,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    Whole,
    Path,
    Group,
    Resource,
}

impl Opaque for Authorizer {
    fn runtime_type_name(&self) -> &str {
        match self.step {
            Step::Whole => "kubernetes.authorization.Authorizer",
            Step::Path => "kubernetes.authorization.PathCheck",
            Step::Group => "kubernetes.authorization.GroupCheck",
            Step::Resource => "kubernetes.authorization.ResourceCheck",
        }
    }
}

impl Authorizer {
    /// `authorizer`
    #[must_use]
    pub fn value(asked: Arc<dyn Ask>) -> Value {
        Self { asked: Asked(asked), step: Step::Whole, question: Question::default() }.into_value()
    }

    /// `authorizer.requestResource`
    #[must_use]
    pub fn of_resource(asked: Arc<dyn Ask>, question: Question) -> Value {
        Self { asked: Asked(asked), step: Step::Resource, question }.into_value()
    }

    fn into_value(self) -> Value {
        Value::Opaque(Arc::new(self))
    }
}

pub(super) const FUNCTIONS: Table = &[
    ("path", |values, _| {
        step(values, Step::Whole, Step::Path, |question, text| question.path = Some(text))
    }),
    ("group", |values, _| {
        step(values, Step::Whole, Step::Group, |question, text| question.group = text)
    }),
    ("serviceAccount", service_account),
    ("resource", |values, _| {
        step(values, Step::Group, Step::Resource, |question, text| question.resource = text)
    }),
    ("subresource", |values, _| of_resource(values, |question, text| question.subresource = text)),
    ("namespace", |values, _| of_resource(values, |question, text| question.namespace = text)),
    ("name", |values, _| of_resource(values, |question, text| question.name = text)),
    ("fieldSelector", |values, _| of_resource(values, |question, text| question.fields = text)),
    ("labelSelector", |values, _| of_resource(values, |question, text| question.labels = text)),
    ("check", check),
    ("allowed", |values, _| Ok(Value::Bool(answer(values)?.allowed))),
    ("reason", |values, _| Ok(text_value(&*answer(values)?.reason))),
    ("errored", |values, _| Ok(Value::Bool(!answer(values)?.error.is_empty()))),
    ("error", |values, _| Ok(text_value(&*answer(values)?.error))),
];

fn answer(values: &[Value]) -> Result<&Answer, String> {
    added(one(values)?)
}

fn step(
    values: &[Value],
    from: Step,
    to: Step,
    say: impl FnOnce(&mut Question, String),
) -> Result<Value, String> {
    let [of, Value::String(text)] = values else { return no_overload() };
    let mut next = added::<Authorizer>(of)?.clone();
    if next.step != from {
        return no_overload();
    }
    next.step = to;
    say(&mut next.question, text.to_string());
    Ok(next.into_value())
}

fn of_resource(values: &[Value], say: impl FnOnce(&mut Question, String)) -> Result<Value, String> {
    step(values, Step::Resource, Step::Resource, say)
}

fn service_account(values: &[Value], _: &Allowance) -> Result<Value, String> {
    let [of, Value::String(namespace), Value::String(name)] = values else { return no_overload() };
    let mut next = added::<Authorizer>(of)?.clone();
    if next.step != Step::Whole {
        return no_overload();
    }
    next.question.account = Some((namespace.to_string(), name.to_string()));
    Ok(next.into_value())
}

fn check(values: &[Value], allowance: &Allowance) -> Result<Value, String> {
    let [of, Value::String(verb)] = values else { return no_overload() };
    let asked = added::<Authorizer>(of)?;
    if !matches!(asked.step, Step::Path | Step::Resource) {
        return no_overload();
    }
    if !allowance.take(QUESTION_UNITS) {
        return Err("too much work".to_owned());
    }
    let question = Question { verb: verb.to_string(), ..asked.question.clone() };
    Ok(Value::Opaque(Arc::new(asked.asked.0.ask(&question))))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Evaluation, Expression, Failed, Known, Scope, UNITS_MAX, Variables};

    /// Lets everybody create in the namespace `open`, and nobody do anything else.
    struct Door;

    impl Ask for Door {
        fn ask(&self, question: &Question) -> Answer {
            let allowed = question.namespace == "open"
                && question.verb == "create"
                && question.group == "apps"
                && question.resource == "deployments";
            let reason = if question.verb == "list" {
                format!("{:?} {:?}", question.fields, question.labels)
            } else {
                format!("{:?} {:?}", question.account, question.path)
            };
            Answer { allowed, reason, error: String::new() }
        }
    }

    fn run(text: &str) -> Result<Value, Failed> {
        let mut scope = Scope::default();
        scope.put_value("authorizer", Authorizer::value(Arc::new(Door)));
        let here = Question {
            group: "apps".into(),
            resource: "deployments".into(),
            namespace: "open".into(),
            ..Question::default()
        };
        let asked = Authorizer::of_resource(Arc::new(Door), here);
        scope.put_value("authorizer.requestResource", asked);
        let known = Known { names: &["authorizer"], ..Known::default() };
        let expression =
            Expression::read(text, &known).map_err(|why| Failed::Because(why.to_string()))?;
        Evaluation::new(&scope, &Variables::default(), UNITS_MAX).run(&expression)
    }

    #[test]
    fn what_people_may_do_is_asked_of_who_knows() {
        for (text, is) in [
            (
                "authorizer.group('apps').resource('deployments').namespace('open').check('create').allowed()",
                true,
            ),
            (
                "authorizer.group('apps').resource('deployments').namespace('shut').check('create').allowed()",
                false,
            ),
            ("authorizer.requestResource.check('create').allowed()", true),
            ("authorizer.requestResource.check('delete').allowed()", false),
            (
                "authorizer.path('/healthz').check('get').reason() == 'None Some(\"/healthz\")'",
                true,
            ),
            (
                "authorizer.serviceAccount('a', 'b').path('/x').check('get').reason().startsWith('Some((\"a\", \"b\"))')",
                true,
            ),
            ("authorizer.path('/healthz').check('get').errored()", false),
            (
                "authorizer.group('').resource('pods').fieldSelector('spec.nodeName=a').labelSelector('b in (c)').check('list').reason() == '\"spec.nodeName=a\" \"b in (c)\"'",
                true,
            ),
        ] {
            assert_eq!(run(text), Ok(Value::Bool(is)), "{text}");
        }
        let none = Err(Failed::Because("no such overload".to_owned()));
        assert_eq!(run("authorizer.check('get')"), none);
        assert_eq!(run("authorizer.group('a').check('get')"), none);
        assert_eq!(run("authorizer.group('a').fieldSelector('a=b')"), none);
        // Each question costs a third of what an expression may use.
        let asks = "authorizer.path('/').check('get').allowed()";
        assert_eq!(run(&[asks; 4].join(" || ")), Err(Failed::TooMuchWork));
    }
}
