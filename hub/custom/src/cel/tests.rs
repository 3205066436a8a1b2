//! Rules as people write them, and as nobody should.

use serde_json::{Value, json};

use super::{Typed, check, check_on};
use crate::before::Before;
use crate::schema::Schema;

/// A schema of `spec` with one rule.
fn schema(rule: Value, fields: Value) -> Schema {
    let spec = Value::from_iter([
        ("type", json!("object")),
        ("x-kubernetes-validations", Value::from(vec![rule])),
        ("properties", fields),
    ]);
    Schema::read(&json!({"type": "object", "properties": {"spec": spec}}))
}

fn fields() -> Value {
    json!({
        "a": {"type": "integer"}, "b": {"type": "integer"}, "f": {"type": "number"},
        "s": {"type": "string"}, "t": {"type": "string"},
        "list": {"type": "array", "items": {"type": "integer"}},
        "words": {"type": "array", "items": {"type": "string"}},
        "map": {"type": "object", "additionalProperties": {"type": "string"}},
        "when": {"type": "string", "format": "date-time"},
        "span": {"type": "string", "format": "duration"},
        "a-b": {"type": "string"}, "namespace": {"type": "string"},
        "port": {"x-kubernetes-int-or-string": true},
        "objects": {"type": "array", "x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["k"],
            "items": {"type": "object", "properties": {"k": {"type": "string"}, "v": {"type": "integer"}}}},
    })
}

fn said(rule: Value, spec: Value, old: Option<Value>) -> Vec<String> {
    let schema = schema(rule, fields());
    let object = Value::from_iter([("spec", spec)]);
    let old = old.map(|old| json!({"spec": old}));
    let before = old.as_ref().map_or(Before::nothing(), Before::of);
    let all = check(&schema, &object, before);
    all.into_iter().map(|error| format!("{}: {}", error.field, error.message)).collect()
}

#[track_caller]
fn holds(rule: &str, spec: Value) {
    assert_eq!(said(json!({"rule": rule}), spec, None), Vec::<String>::new(), "{rule}");
}

#[track_caller]
fn fails(rule: &str, spec: Value, text: &str) {
    assert_eq!(said(json!({"rule": rule}), spec, None), [text], "{rule}");
}

#[test]
fn rules_see_what_the_schema_says() {
    holds("self.a < self.b", json!({"a": 1, "b": 2}));
    holds("has(self.a) && !has(self.b)", json!({"a": 1}));
    holds("self.f == 1.0", json!({"f": 1}));
    holds("self.list.all(x, x > 0) && self.list.exists(x, x == 2)", json!({"list": [1, 2]}));
    holds("self.list.exists_one(x, x == 2)", json!({"list": [1, 2]}));
    holds(
        "self.list.map(x, x * 2) == [2, 4] && self.list.filter(x, x > 1) == [2]",
        json!({"list": [1, 2]}),
    );
    holds("self.map.all(k, self.map[k] != '')", json!({"map": {"x": "y"}}));
    holds(
        "self.list.all(i, x, x == i + 1) && self.map.exists(k, v, k + v == 'xy') && self.map.transformMap(k, v, v + '!') == {'x': 'y!'}",
        json!({"list": [1, 2], "map": {"x": "y"}}),
    );
    holds(
        "self.objects.sortBy(o, o.v).map(o, o.k) == ['b', 'a'] && self.objects.all(i, o, o.v == 2 - i)",
        json!({"objects": [{"k": "a", "v": 2}, {"k": "b", "v": 1}]}),
    );
    holds("self.when < timestamp('2027-01-01T00:00:00Z')", json!({"when": "2026-01-01T00:00:00Z"}));
    holds("self.span <= duration('2h')", json!({"span": "1h30m"}));
    holds(
        "self.a__dash__b == 'x' && self.__namespace__ == 'y'",
        json!({"a-b": "x", "namespace": "y"}),
    );
    holds("type(self.port) == int ? self.port > 1 : self.port.size() > 1", json!({"port": 80}));
    holds("type(self.port) == int ? self.port > 1 : self.port.size() > 1", json!({"port": "http"}));
    holds("'x' in self.words && size(self.words) == 1", json!({"words": ["x"]}));
    holds("self.s + self.t == 'xy'", json!({"s": "x", "t": "y"}));
    holds("self.?s.orValue('none') == 'none'", json!({}));
    fails(
        "self.a > self.b",
        json!({"a": 1, "b": 2}),
        "spec: Invalid value: failed rule: self.a > self.b",
    );
}

#[test]
fn what_is_told_is_what_the_rule_says() {
    let spec = || json!({"a": 1, "b": 2});
    let rule = json!({"rule": "self.a > self.b", "message": "a must be more", "fieldPath": ".a",
        "reason": "FieldValueForbidden"});
    assert_eq!(said(rule, spec(), None), ["spec.a: Forbidden: a must be more"]);
    let rule = json!({"rule": "self.a > self.b", "message": "m",
        "messageExpression": "'a is ' + string(self.a) + ', not more than ' + string(self.b)"});
    assert_eq!(said(rule, spec(), None), ["spec: Invalid value: a is 1, not more than 2"]);
    let rule = json!({"rule": "self.a > self.b", "message": "m", "messageExpression": "self.s"});
    assert_eq!(said(rule, spec(), None), ["spec: Invalid value: m"]);
}

#[test]
fn what_fails_is_told() {
    fails(
        "self.s == 'x'",
        json!({}),
        r#"spec: Invalid value: "object": no such key: s evaluating rule: self.s == 'x'"#,
    );
    fails(
        "self.a / 0 == 1",
        json!({"a": 1}),
        r#"spec: Invalid value: "object": division by zero evaluating rule: self.a / 0 == 1"#,
    );
    fails(
        "self.a ==",
        json!({"a": 1}),
        &said(json!({"rule": "self.a =="}), json!({"a": 1}), None)[0].clone(),
    );
    assert!(
        said(json!({"rule": "self.a =="}), json!({"a": 1}), None)[0].contains("rule compile error")
    );
}

#[test]
fn rules_compare_with_what_was_before() {
    let rule = || json!({"rule": "self.a >= oldSelf.a", "message": "a only grows"});
    assert_eq!(said(rule(), json!({"a": 1}), None), Vec::<String>::new());
    assert_eq!(said(rule(), json!({"a": 2}), Some(json!({"a": 1}))), Vec::<String>::new());
    assert_eq!(
        said(rule(), json!({"a": 1}), Some(json!({"a": 2}))),
        ["spec: Invalid value: a only grows"]
    );
    let rule = || json!({"rule": "!oldSelf.hasValue() || self.a == oldSelf.value().a", "optionalOldSelf": true});
    assert_eq!(said(rule(), json!({"a": 1}), None), Vec::<String>::new());
    assert_eq!(said(rule(), json!({"a": 1}), Some(json!({"a": 2}))).len(), 1);
    // What was so before, and stays, is let be.
    let rule = || json!({"rule": "self.a > 5"});
    assert_eq!(said(rule(), json!({"a": 1}), Some(json!({"a": 1}))), Vec::<String>::new());
    assert_eq!(said(rule(), json!({"a": 2}), Some(json!({"a": 1}))).len(), 1);
}

#[test]
fn functions_answer_as_those_of_kubernetes() {
    for rule in [
        "[1, 2, 3].isSorted() && ![2, 1].isSorted() && [1, 2].sum() == 3 && [1, 5].max() == 5 && [1, 5].min() == 1",
        "['a', 'b', 'a'].indexOf('b') == 1 && ['a', 'b', 'a'].lastIndexOf('a') == 2 && 'tacocat'.indexOf('c') == 2",
        "[1, 2, 2, 3, 1].distinct() == [1, 2, 3] && [3, 1, 2].sort() == [1, 2, 3] && ['b', 'a'].sort() == ['a', 'b']",
        "[1, [2, [3]], []].flatten() == [1, 2, [3]] && [1, [2, [3]]].flatten(2) == [1, 2, 3] && [[1]].flatten(0) == [[1]]",
        "[1, 2, 3, 4].slice(1, 3) == [2, 3] && [1].slice(1, 1) == [] && [5, 3].reverse() == [3, 5] && lists.range(3) == [0, 1, 2]",
        "[1, 2].first().value() == 1 && [1, 2].last().value() == 2 && ![].first().hasValue() && lists.range(-1) == []",
        r#"strings.quote('a"\\n') == '"a\\"\\\\n"' && strings.quote('\n\t') == '"\\n\\t"'"#,
        "'abc'.charAt(1) == 'b' && 'ABC'.lowerAscii() == 'abc' && ' x '.trim() == 'x' && 'abcd'.substring(1, 3) == 'bc'",
        "'a,b'.split(',') == ['a', 'b'] && ['a', 'b'].join('-') == 'a-b' && 'aXa'.replace('a', 'b') == 'bXb'",
        "'abc123'.find('[0-9]+') == '123' && 'a1b2'.findAll('[0-9]') == ['1', '2'] && 'abc'.matches('^a.c$')",
        "quantity('1Gi').isGreaterThan(quantity('500M')) && quantity('200M').compareTo(quantity('0.2G')) == 0",
        "quantity('50k').add(quantity('20k')).compareTo(quantity('70k')) == 0 && !isQuantity('10 Mi')",
        "quantity('50').asInteger() == 50 && quantity('50').sub(20).isInteger() && quantity('-1').sign() == -1",
        "semver('1.2.3').isLessThan(semver('1.10.0')) && semver('1.0.0-a').compareTo(semver('1.0.0')) == -1",
        "semver('1.2.3+a') == semver('1.2.3+b') && semver('v1.02', true).minor() == 2 && semver('1', true).patch() == 0",
        "isSemver('1.0.0') && !isSemver('v1.0.0') && !isSemver('1.0') && isSemver('v1.0', true) && !isSemver('1-a', true)",
        "url('https://a.b:80/c?d=e').getHost() == 'a.b:80' && url('https://a.b:80/c').getPort() == '80'",
        "url('https://a.b/c?d=e').getQuery() == {'d': ['e']} && isURL('/x') && !isURL('x')",
        "url('https://[::1]:80/').getHostname() == '::1' && url('/a/b').getEscapedPath() == '/a/b'",
        "isIP('10.0.0.1') && !isIP('10.0.0.256') && ip('::1').family() == 6 && ip('127.0.0.1').isLoopback()",
        "cidr('10.0.0.0/8').containsIP('10.1.2.3') && cidr('10.0.0.0/8').containsCIDR('10.1.0.0/16')",
        "cidr('10.1.2.3/8').masked() == cidr('10.0.0.0/8') && cidr('::/0').prefixLength() == 0 && isCIDR('::/1')",
        "sets.contains([1, 2], [2]) && sets.equivalent([1, 2], [2, 1, 1]) && sets.intersects([1], [1, 2])",
        "!format.dns1123Label().validate('a-b').hasValue() && format.dns1123Label().validate('A').hasValue()",
        "'%s has %d'.format(['x', 2]) == 'x has 2'",
    ] {
        holds(rule, json!({}));
    }
}

/// Each of these would take hours, or all memory that there is.
#[test]
fn a_rule_that_never_ends_is_ended() {
    let list: Vec<u32> = (0..1_000).collect();
    let word = "x".repeat(80_000);
    for rule in [
        "self.list.all(a, self.list.all(b, self.list.all(c, self.list.all(d, a + b + c + d >= 0))))",
        "self.list.map(a, self.list.map(b, self.list.map(c, a + b + c))).size() > 0",
        "self.list.map(a, self.s + self.s).size() > 0",
        "self.list.exists(a, self.list.exists_one(b, self.list.filter(c, c > b).size() == -1))",
        "self.s.replace('', self.s).size() > 0",
        "self.list.map(a, self).map(b, [b, b, b, b, b, b, b, b]).size() > 0",
        "[self.s].map(a, a + a).map(a, a + a).map(a, a + a).map(a, a + a).map(a, a + a).map(a, a + a).map(a, a + a).map(a, a + a).map(a, a + a).map(a, a + a).map(a, a + a).map(a, a + a).map(a, a + a).map(a, a + a).map(a, a + a).map(a, a + a).size() > 0",
        "self.s.split('').all(a, self.s.split('').all(b, a == b))",
        "self.list.all(a, self.s.matches('(x+x+)+y') || true)",
        "self.list.all(i, a, self.list.all(j, b, self.list.all(k, c, a + b + c + i + j + k >= 0)))",
        "self.list.transformList(i, a, self.list.transformMap(j, b, self.list)).size() > 0",
        "self.list.transformMap(i, a, self).transformMap(i, b, [b, b, b, b, b, b, b, b]).size() > 0",
        "self.list.transformMapEntry(i, a, {i: self.s + self.s}).size() > 0",
        "self.list.all(a, self.list.sortBy(b, -b).size() > 0)",
        "[1,2,3,4,5,6,7,8,9].all(a, [1,2,3,4,5,6,7,8,9].all(b, [1,2,3,4,5,6,7,8,9].all(c, [1,2,3,4,5,6,7,8,9].all(d, [1,2,3,4,5,6,7,8,9].all(e, [1,2,3,4,5,6,7,8,9].all(f, [1,2,3,4,5,6,7,8,9].all(g, true)))))))",
    ] {
        let begun = std::time::Instant::now();
        let all = said(json!({"rule": rule}), json!({"list": list, "s": word}), None);
        let bounds = ["actual cost limit exceeded", "may take 16777216 bytes"];
        let ended = all.first().is_some_and(|told| bounds.iter().any(|bound| told.contains(bound)));
        assert!(ended, "{rule}: {all:?}");
        assert!(begun.elapsed().as_secs() < 20, "{rule} took {:?}", begun.elapsed());
    }
    // What people write is far from that.
    let many: Vec<u32> = (0..200).collect();
    holds("self.list.all(a, self.list.exists_one(b, a == b))", json!({"list": many}));
}

#[test]
fn rules_for_each_element_share_what_an_object_may_use() {
    let schema =
        Schema::read(&json!({"type": "object", "properties": {"spec": {"type": "array", "items":
        {"type": "array", "items": {"type": "integer"}, "x-kubernetes-validations":
            [{"rule": "self.all(x, self.all(y, x + y >= 0))"}]}}}}));
    let row: Vec<u32> = (0..300).collect();
    let object = json!({"spec": vec![row; 500]});
    let errors = check(&schema, &object, Before::nothing());
    assert_eq!(errors.len(), 1, "no further rules are asked");
    assert!(errors[0].message.contains("cost limit exceeded"));
}

#[test]
fn mistakes_in_a_rule_are_found_before_it_is_kept() {
    let schema = Schema::read(&json!({"type": "object", "properties": fields()}));
    let said = |rule: &str| {
        let found = Typed::of(&schema, false).look(&json!({"rule": rule}));
        found.wrong.into_iter().map(|(key, why)| format!("{key}: {why}")).collect::<Vec<_>>()
    };
    assert_eq!(said("self.a > 1 && self.list.all(x, x > 1)"), Vec::<String>::new());
    assert_eq!(said("self.map.all(k, v, k != v) && self.list.all(i, x, i < x)"), [""; 0]);
    let wrong = said("self.words.all(i, x, i == 'a')").concat();
    assert!(wrong.contains("'_==_' applied to '(int, string)'"), "{wrong}");
    assert_eq!(
        said("self.c > 1"),
        [
            "rule: compilation failed: ERROR: <input>:1:5: undefined field 'c'\n | self.c > 1\n | ....^"
        ]
    );
    assert_eq!(said("has(self.map.anything)"), Vec::<String>::new());
    assert_eq!(
        said("nothing.a > 1"),
        ["rule: compilation failed: undeclared reference to 'nothing' (in container '')"]
    );
    assert_eq!(
        said("self.s.sing()"),
        ["rule: compilation failed: undeclared reference to 'sing' (in container '')"]
    );
    assert_eq!(said("self.a >").len(), 1);
    assert_eq!(said(&"(".repeat(500)).len(), 1);
    let rule = json!({"rule": "self.a > 1", "optionalOldSelf": true});
    assert_eq!(Typed::of(&schema, false).look(&rule).wrong[0].0, "optionalOldSelf");
}

#[test]
fn mistakes_of_rules_are_bounded() {
    let message = "m".repeat(4_000);
    let rule = json!([{"rule": "false", "message": message}]);
    let each = json!({"type": "integer", "x-kubernetes-validations": rule});
    let schema = Schema::read(
        &json!({"type": "object", "properties": {"l": {"type": "array", "items": each}}}),
    );
    let errors = check(&schema, &json!({"l": vec![1; 20_000]}), Before::nothing());
    let bytes: usize = errors.iter().map(|error| error.message.len() + error.field.len()).sum();
    assert!((200..2_000).contains(&errors.len()) && bytes < 4 << 20, "{} {bytes}", errors.len());
}

#[test]
fn without_a_thread_nothing_is_said_of_a_rule() {
    let schema = schema(json!({"rule": "self.a > 1"}), fields());
    let object = json!({"spec": {"a": 2}});
    let errors = check_on(usize::MAX / 4, &schema, &object, Before::nothing());
    assert!(errors.len() == 1 && errors[0].is_not_now(), "{errors:?}");
    assert_eq!(check(&schema, &object, Before::nothing()), []);
}

#[test]
fn functions_of_lists_are_bounded_and_say_what_is_wrong() {
    for (rule, why) in [
        ("[1, 2].slice(-1, 1) == []", "cannot slice(-1, 1), negative indexes not supported"),
        ("[1, 2].slice(2, 1) == []", "start index must be less than or equal to end index"),
        ("[1, 2].slice(1, 3) == []", "cannot slice(1, 3), list is length 2"),
        ("[1].flatten(-1) == []", "level must be non-negative"),
        ("[dyn(1), 'a'].sort() == []", "list elements must have the same type"),
        ("[[1]].sort() == []", "list elements must be comparable"),
        ("lists.range(1000000000000) == []", "actual cost limit exceeded"),
        ("lists.range(100000).distinct() == []", "actual cost limit exceeded"),
        ("dyn('abc').reverse() == 'cba'", "no such overload"),
    ] {
        let told = said(json!({"rule": rule}), json!({}), None);
        assert!(told.len() == 1 && told[0].contains(why), "{rule}: {told:?}");
    }
}
