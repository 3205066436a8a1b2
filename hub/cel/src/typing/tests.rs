//! What is told of expressions, beside what upstream tells.

use std::sync::Arc;

use freewheel_hub_schema::gvk::Gvk;
use freewheel_hub_schema::types::{Schema, TypeFacts};
use serde_json::json;

use super::*;
use crate::{STACK_BYTES, on_a_stack_of};

fn deployment() -> Type<'static> {
    Type::Object(TypeFacts::find("apps", "v1", "Deployment").unwrap())
}

fn names() -> Names<'static> {
    let fields = [("odd", Type::Bool), ("name", Type::String)];
    let fields = fields.map(|(name, of)| (name.to_owned(), of)).into_iter().collect();
    let secret = TypeFacts::find("", "v1", "Secret").unwrap();
    Names::default()
        .with("object", deployment())
        .with("oldObject", deployment())
        .with("params", Type::Object(secret))
        .with("variables", Type::Record(Arc::new(Record { name: "variables", fields })))
        .with("authorizer", Type::Opaque("kubernetes.authorization.Authorizer"))
        .with("authorizer.requestResource", Type::Opaque("kubernetes.authorization.ResourceCheck"))
}

fn check(text: &str, names: &Names<'_>) -> (String, String) {
    let parsed = Parsed::read(text).unwrap();
    on_a_stack_of(STACK_BYTES, || {
        let checked = parsed.check(names, &Work::default());
        (checked.is.to_string(), checked.mistakes)
    })
    .unwrap()
}

#[test]
fn mistakes_are_told_by_their_place() {
    let whole =
        "ERROR: <input>:1:7: undefined field 'replicasX'\n | object.replicasX > 1\n | ......^";
    assert_eq!(check("object.replicasX > 1", &names()).1, whole);
    let overload = |name: &str, given: &str| {
        format!("found no matching overload for '{name}' applied to '{given}'")
    };
    for (text, place, why) in [
        ("object.spec.replicas > '1'", "1:22", overload("_>_", "(int, string)")),
        ("'got ' + object.spec.replicas", "1:8", overload("_+_", "(string, int)")),
        ("authorizer.allowed()", "1:19", {
            overload("allowed", "kubernetes.authorization.Authorizer.()")
        }),
        ("variables.name == object.spec.replicas", "1:16", overload("_==_", "(string, int)")),
        ("variables.name && true", "1:16", overload("_&&_", "(string, bool)")),
        ("object.spec.replicas == null", "1:22", overload("_==_", "(int, null)")),
        ("object.metadata.name.startsWith(1)", "1:32", overload("startsWith", "string.(int)")),
        ("1 in ['a']", "1:3", overload("@in", "(int, list(string))")),
        ("object.metadata.labels['a'] == 1", "1:29", overload("_==_", "(string, int)")),
        ("['a'].map(x, x + 'b')[0] * 2", "1:26", overload("_*_", "(string, int)")),
        ("object.spec.template.spec.containers.all(c, c.image == 5)", "1:53", {
            overload("_==_", "(string, int)")
        }),
        ("object.spec.selectors", "1:12", "undefined field 'selectors'".to_owned()),
        ("has(object.spec.selectors.x)", "1:16", "undefined field 'selectors'".to_owned()),
        ("object.?spec.?nothing.orValue(1) == 1", "1:13", "undefined field 'nothing'".to_owned()),
        ("object.spec.template.spec.containers.exists(c, c.img == '')", "1:49", {
            "undefined field 'img'".to_owned()
        }),
        ("object.spec.replicas.size > 0", "1:21", {
            "type 'int' does not support field selection".to_owned()
        }),
        ("object.spec.replicas.all(x, x > 0)", "1:12", {
            "expression of type 'int' cannot be range of a comprehension (must be list, map, or dynamic)"
                .to_owned()
        }),
        ("variables.nothing", "1:10", "undefined field 'nothing'".to_owned()),
        ("params.spec == 1", "1:7", "undefined field 'spec'".to_owned()),
    ] {
        let told = check(text, &names()).1;
        assert!(told.starts_with(&format!("ERROR: <input>:{place}: {why}\n | ")), "{text}: {told}");
    }
    let two = "object.a == 'x' &&\n\tobject.spec.b == '\u{e9}' || object.c";
    let told = check(two, &names()).1;
    let lines: Vec<&str> = told.lines().collect();
    assert_eq!(
        lines,
        [
            "ERROR: <input>:1:7: undefined field 'a'",
            " | object.a == 'x' &&",
            " | ......^",
            "ERROR: <input>:2:13: undefined field 'b'",
            " |  object.spec.b == '\u{e9}' || object.c",
            " | ............^",
            "ERROR: <input>:2:32: undefined field 'c'",
            " |  object.spec.b == '\u{e9}' || object.c",
            " | ...................\u{ff0e}...........^",
        ]
    );
}

#[test]
fn what_may_be_right_is_no_mistake() {
    for (text, is) in [
        ("object.spec.replicas > 1", "bool"),
        ("object.spec.replicas > 1.5 || object.spec.replicas < 7u", "bool"),
        ("string(object.spec.replicas) + 'x'", "string"),
        ("object.metadata.labels.app == 'x' && 'app' in object.metadata.labels", "bool"),
        ("object.metadata.labels['app'].size()", "int"),
        ("object.metadata.creationTimestamp > timestamp('2026-01-01T00:00:00Z')", "bool"),
        ("object.metadata.creationTimestamp.startsWith('2026')", "bool"),
        ("object.spec.template.spec.containers.map(c, c.image)", "list(string)"),
        ("object.spec.template.spec.containers.filter(c, c.image == '')[0].name", "string"),
        ("object.spec.template.spec.containers.exists_one(c, 'x' in c.resources.limits)", "bool"),
        (
            "object.spec.template.spec.containers.all(c, quantity(c.resources.limits['cpu']).isLessThan(quantity('1')))",
            "bool",
        ),
        (
            "object.spec.strategy.rollingUpdate.maxSurge == '25%' || object.spec.strategy.rollingUpdate.maxSurge == 1",
            "bool",
        ),
        ("object == oldObject && oldObject != null && object.spec == {'a': 1}", "bool"),
        ("object.spec.?replicas.orValue(1)", "int"),
        ("object.?metadata.?labels[?'a'].orValue('b')", "string"),
        ("optional.of(object.spec.replicas).optMap(r, r + 1).orValue(0)", "int"),
        ("type(object.spec.replicas) == int", "bool"),
        ("type(timestamp('x')) == google.protobuf.Timestamp", "bool"),
        ("type(duration('1s')) == google.protobuf.Duration || type(1) == type('x')", "bool"),
        (
            "[google.protobuf.Duration, google.protobuf.Timestamp].exists(t, t == type(params))",
            "bool",
        ),
        ("optional.of(optional.of(1)).value().value()", "int"),
        (
            "optional.of(optional.none()).value().hasValue() && {'a': optional.of(1)}.?a.value().value() > 0",
            "bool",
        ),
        ("object.?spec.?template.spec.nodeName.orValue('')", "string"),
        ("has(object.metadata.__namespace__) && object.metadata.namespace == 'x'", "bool"),
        ("params.data['a'] == 'eA==' && params.data.b == b'x'", "bool"),
        ("authorizer.group('apps').resource('deployments').check('get').allowed()", "bool"),
        ("authorizer.requestResource.check('get').reason()", "string"),
        ("variables.odd ? variables.name : 'none'", "string"),
        ("dyn(1) == 'x' || [1, 'a'].exists(x, x == 1)", "bool"),
        ("[] == [1] && {} == {'a': 1} && size([]) == 0", "bool"),
        ("[1, 2].map(x, [x]).map(x, x[0]).sum() == 3", "bool"),
        ("duration('1s') + duration('2s') < duration('1m') && ip('::1').family() == 6", "bool"),
        ("'%s of %d'.format(['a', 1]).split(' ').join('-')", "string"),
        (
            "cidr('10.0.0.0/8').ip() == ip('10.0.0.0') && url('a://b').getQuery()['a'] == ['b']",
            "bool",
        ),
        ("object.metadata.managedFields.all(m, m.fieldsV1.anything == 1)", "bool"),
        ("object.metadata.all(key, key != '')", "bool"),
        ("object['spec']['replicas'] == 1 && object.spec['replicas'] > 1", "bool"),
    ] {
        assert_eq!(check(text, &names()), (is.to_owned(), String::new()), "{text}");
    }
}

#[test]
fn schemas_that_come_with_their_kind_are_known() {
    let schema = json!({"type": "object", "properties": {"spec": {"type": "object", "properties": {
        "replicas": {"type": "integer"}, "weight": {"type": "number"},
        "cron": {"type": "string"}, "since": {"type": "string", "format": "date-time"},
        "size": {"x-kubernetes-int-or-string": true},
        "any": {"type": "object", "x-kubernetes-preserve-unknown-fields": true},
        "more": {"type": "object", "additionalProperties": {"type": "integer"}},
        "free": {"type": "object", "additionalProperties": true},
    }}}});
    let schema = Schema::structural(&Gvk::new("x.dev", "v1", "CronTab"), &schema).unwrap();
    let names = Names::default().with("object", Type::Object(schema.facts()));
    for right in [
        "object.spec.replicas > 1 && object.spec.weight == 1 && object.spec.weight > 1.5",
        "object.spec.cron == '* *' && object.metadata.name != object.kind",
        "object.spec.since > timestamp('2026-01-01T00:00:00Z') || object.spec.since == 'x'",
        "object.spec.size == 1 || object.spec.size == '1'",
        "object.spec.any.thing.goes == 1 && object.spec.free.x == 'y'",
        "object.spec.more.a + object.spec.more['b'] > 1",
    ] {
        assert_eq!(check(right, &names), ("bool".to_owned(), String::new()), "{right}");
    }
    for (wrong, why) in [
        (
            "object.spec.replicas > '1'",
            "found no matching overload for '_>_' applied to '(int, string)'",
        ),
        ("object.spec.cron > 1", "found no matching overload for '_>_' applied to '(string, int)'"),
        ("object.spec.replicasX > 1", "undefined field 'replicasX'"),
        (
            "object.spec.more.a == 'x'",
            "found no matching overload for '_==_' applied to '(int, string)'",
        ),
    ] {
        assert!(check(wrong, &names).1.contains(why), "{wrong}");
    }
}

#[test]
fn types_stay_small() {
    let (mut keys, mut values, mut lists) = (Type::String, Type::String, Type::String);
    for _ in 0..100_000 {
        keys = Type::map(keys.clone(), keys).of_variable();
        values = Type::map(Type::String, values);
        lists = Type::optional(Type::list(lists));
    }
    for of in [keys, values, lists] {
        assert!(of.levels() <= 32 && of.to_string().len() < 1_000, "{of}");
    }
    let deep = format!("{}1{}", "[".repeat(90), "]".repeat(90));
    let (is, mistakes) = check(&format!("{deep} == {deep} && {deep}[0][0] != 1"), &names());
    assert_eq!((is.as_str(), mistakes.lines().count()), ("bool", 3), "{mistakes}");
    assert!(mistakes.contains("list(dyn)"), "{mistakes}");
}

#[test]
fn mistakes_are_told_in_short() {
    let wrong = |count: usize, between: &str| vec!["object.a"; count].join(between);
    let told = check(&wrong(100, "||\n"), &names()).1;
    assert_eq!(told.lines().count(), 300, "{told}");
    let told = check(&wrong(130, "||\n"), &names()).1;
    assert_eq!(told.lines().last(), Some("30 more errors were truncated"));
    // Each shows the whole line.
    let long = format!("{}||'{}'=='x'", wrong(60, "||"), "x".repeat(14_000));
    let told = check(&long, &names()).1;
    assert!(
        told.len() < 150_000 && told.ends_with(" more errors were truncated"),
        "{}",
        told.len()
    );
    let given = vec!["[[[[[[[[1]]]]]]]]"; 100].join(",");
    let told = check(&format!("size({given})"), &names()).1;
    assert!(told.contains(", …") && told.len() < 10_000, "{told}");
}

#[test]
fn work_has_an_end() {
    let looked = |steps: u64| {
        let parsed = Parsed::read("object.a == 1 || object.b == 2").unwrap();
        let look = || {
            let work = Work::of(steps);
            let mistakes = parsed.check(&names(), &work).mistakes;
            (mistakes.matches("undefined").count(), work.is_over())
        };
        on_a_stack_of(STACK_BYTES, look).unwrap()
    };
    assert_eq!(looked(1_000), (2, false));
    let some = (0..20).map(looked).collect::<Vec<_>>();
    assert!(some.contains(&(1, true)) && some[0] == (0, true), "{some:?}");
}
