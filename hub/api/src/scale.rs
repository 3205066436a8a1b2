//! The scale of a workload: how many replicas it is to have and has, wherever its kind keeps that.
//!
//! Guarantees:
//! - it is read where the kind says, and of a kind that says nothing where most have it
//!   (`a_scale_is_read_where_its_kind_has_it`).

use freewheel_hub_schema::kind::{Kind, Selection};
use freewheel_hub_schema::selector::LabelSelector;
use serde_json::{Value, json};

/// Where most kinds have them.
const WANTED: &str = "/spec/replicas";
const CURRENT: &str = "/status/replicas";

/// How many replicas, and of which pods.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Scale {
    /// How many are wanted.
    pub wanted: i64,
    /// How many there are.
    pub current: i64,
    /// Which pods they are, as the text of a selector.
    pub selector: Option<String>,
}

/// A custom resource does not say how many are wanted.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the spec replicas field {0:?} does not exist")]
pub struct NoReplicas(String);

impl Scale {
    /// Of an object in this kind's form.
    ///
    /// # Errors
    /// When the kind says where its replicas are, and there is nothing.
    pub fn of(kind: &Kind, object: &Value) -> Result<Self, NoReplicas> {
        let number = |path: &str| object.pointer(path).and_then(Value::as_i64);
        let Some(paths) = kind.strategy.scale() else {
            let (wanted, current) = (number(WANTED), number(CURRENT));
            return Ok(Self {
                wanted: wanted.unwrap_or_default(),
                current: current.unwrap_or_default(),
                selector: selector(kind, object),
            });
        };
        let missing = || NoReplicas(paths.wanted.replace('/', "."));
        let wanted = number(&paths.wanted).ok_or_else(missing)?;
        let text = paths.selector.as_ref().and_then(|path| object.pointer(path)?.as_str());
        let selector = text.filter(|text| !text.is_empty()).map(str::to_owned);
        Ok(Self { wanted, current: number(&paths.current).unwrap_or_default(), selector })
    }
}

/// As text, what `spec.selector` says in the kind's way.
fn selector(kind: &Kind, object: &Value) -> Option<String> {
    let selector = object.pointer("/spec/selector");
    if kind.selection == Some(Selection::Labels) {
        let labels = selector.and_then(Value::as_object)?;
        let pairs = labels.iter().filter_map(|(key, value)| Some((key.as_str(), value.as_str()?)));
        return Some(LabelSelector::from_map(pairs).to_string());
    }
    LabelSelector::from_json(selector, "spec.selector").ok().map(|it| it.to_string())
}

/// Makes so many wanted.
pub fn put_wanted(kind: &Kind, object: &mut Value, replicas: i32) {
    let wanted = kind.strategy.scale().map_or(WANTED, |paths| &*paths.wanted);
    let mut at = object;
    for key in wanted.split('/').skip(1) {
        if !at.is_object() {
            *at = json!({});
        }
        at = &mut at[key];
    }
    *at = json!(replicas);
}

#[cfg(test)]
mod tests {
    use freewheel_hub_schema::gvk::Gvk;
    use freewheel_hub_schema::kind::{ScalePaths, Strategy};

    use super::*;
    use crate::kinds;

    struct Elsewhere(ScalePaths);

    impl Strategy for Elsewhere {
        fn scale(&self) -> Option<&ScalePaths> {
            Some(&self.0)
        }
    }

    fn scale(wanted: i64, current: i64, selector: Option<&str>) -> Scale {
        Scale { wanted, current, selector: selector.map(str::to_owned) }
    }

    #[test]
    fn a_scale_is_read_where_its_kind_has_it() {
        let mut object = json!({"spec": {"replicas": 2, "selector": {"matchLabels": {"a": "b"}}},
            "status": {"replicas": 1}});
        let deployments = kinds::find("apps", "v1", "deployments").unwrap();
        assert_eq!(Scale::of(deployments, &object), Ok(scale(2, 1, Some("a=b"))));
        object["spec"]["selector"] = json!({"a": "b", "c": "d"});
        let controllers = kinds::find("", "v1", "replicationcontrollers").unwrap();
        assert_eq!(Scale::of(controllers, &object), Ok(scale(2, 1, Some("a=b,c=d"))));
        put_wanted(controllers, &mut object, 5);
        assert_eq!(object["spec"]["replicas"], 5);

        let paths = |selector: Option<&str>| ScalePaths {
            wanted: "/spec/size/wanted".to_owned(),
            current: "/status/there".to_owned(),
            selector: selector.map(str::to_owned),
        };
        let kind = |selector| {
            Kind::new(Gvk::new("e.com", "v1", "Crew"), "crews", Elsewhere(paths(selector)))
        };
        let mut crew = json!({"spec": {}, "status": {"there": 3, "who": "a=b"}});
        let missing = Scale::of(&kind(None), &crew).unwrap_err();
        let text = "the spec replicas field \".spec.size.wanted\" does not exist";
        assert_eq!(missing.to_string(), text);
        put_wanted(&kind(None), &mut crew, 4);
        assert_eq!(Scale::of(&kind(None), &crew), Ok(scale(4, 3, None)));
        assert_eq!(Scale::of(&kind(Some("/status/who")), &crew), Ok(scale(4, 3, Some("a=b"))));
        assert_eq!(Scale::of(&kind(Some("/status/none")), &crew), Ok(scale(4, 3, None)));
    }
}
