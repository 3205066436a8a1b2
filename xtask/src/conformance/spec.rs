//! Upstream's conformance specs, by what they need to hold: `tests/conformance/specs`.
//!
//! Guarantees:
//! - a spec has one class (`every_spec_has_one_class`).

use freewheel_xtask_kit::command::Stop;

/// Specs that need the same.
pub struct Class {
    pub name: &'static str,
    /// What they need.
    pub needs: &'static str,
    list: &'static str,
}

/// All of them, cheapest first.
pub const CLASSES: [Class; 7] = [
    Class {
        name: "a1",
        needs: "the API server alone",
        list: include_str!("../../../tests/conformance/specs/a1.txt"),
    },
    Class {
        name: "a2",
        needs: "controllers, too",
        list: include_str!("../../../tests/conformance/specs/a2.txt"),
    },
    Class {
        name: "a-node",
        needs: "nodes on which nothing runs",
        list: include_str!("../../../tests/conformance/specs/a-node.txt"),
    },
    Class {
        name: "b1",
        needs: "pods that come and go",
        list: include_str!("../../../tests/conformance/specs/b1.txt"),
    },
    Class {
        name: "b2",
        needs: "pods that do what agnhost does",
        list: include_str!("../../../tests/conformance/specs/b2.txt"),
    },
    Class {
        name: "b3",
        needs: "pods that run a line of shell",
        list: include_str!("../../../tests/conformance/specs/b3.txt"),
    },
    Class {
        name: "c",
        needs: "what only Linux has",
        list: include_str!("../../../tests/conformance/specs/c.txt"),
    },
];

impl Class {
    /// Names of its specs.
    pub fn specs(&self) -> impl Iterator<Item = &'static str> {
        self.list.lines().filter(|line| !line.is_empty())
    }

    /// Whether its specs need a node.
    fn on_nodes(&self) -> bool {
        !matches!(self.name, "a1" | "a2")
    }
}

/// A spec and the class it is in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Spec {
    pub class: &'static str,
    pub name: &'static str,
    pub on_nodes: bool,
}

impl Spec {
    /// Whether it says of itself that it takes minutes.
    pub fn slow(&self) -> bool {
        self.name.contains("[Slow]")
    }

    /// Whether it must be alone with the server.
    pub fn serial(&self) -> bool {
        self.name.contains("[Serial]")
    }
}

/// Every spec.
pub fn all() -> impl Iterator<Item = Spec> {
    CLASSES.iter().flat_map(|class| {
        let spec = |name| Spec { class: class.name, name, on_nodes: class.on_nodes() };
        class.specs().map(spec)
    })
}

/// The specs that words stand for: a class, the first letter of classes, or a part of names; class a without any.
pub fn chosen(words: &[String]) -> Result<Vec<Spec>, Stop> {
    let default = ["a1".to_owned(), "a2".to_owned()];
    let words = if words.is_empty() { &default } else { words };
    let mut found = std::collections::BTreeSet::new();
    for word in words {
        let before = found.len();
        found.extend(all().filter(|spec| stands_for(word, spec)));
        if found.len() == before && !all().any(|spec| stands_for(word, &spec)) {
            let classes: Vec<&str> = CLASSES.iter().map(|class| class.name).collect();
            return Err(Stop(format!(
                "{word:?} is no class ({}), and no spec has it in its name",
                classes.join(" ")
            )));
        }
    }
    Ok(all().filter(|spec| found.contains(spec)).collect())
}

fn stands_for(word: &str, spec: &Spec) -> bool {
    match word {
        "a" | "b" => spec.class.len() == 2 && spec.class.starts_with(word),
        _ if CLASSES.iter().any(|class| class.name == word) => spec.class == word,
        _ => spec.name.to_lowercase().contains(&word.to_lowercase()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn count(words: &[&str]) -> usize {
        let words: Vec<String> = words.iter().map(|word| (*word).to_owned()).collect();
        chosen(&words).unwrap().len()
    }

    #[test]
    fn every_spec_has_one_class() {
        let mut names: Vec<&str> = all().map(|spec| spec.name).collect();
        names.sort_unstable();
        names.dedup();
        assert_eq!((all().count(), names.len()), (446, 446));
    }

    #[test]
    fn a_word_is_a_class_or_a_part_of_a_name() {
        assert_eq!((count(&["a1"]), count(&["a2"]), count(&["a-node"])), (115, 27, 4));
        assert_eq!((count(&["a"]), count(&[]), count(&["b"])), (142, 142, 207));
        assert_eq!(count(&["a1", "Watchers should"]), 115);
        assert_eq!(count(&["watchers should"]), 5);
        assert!(chosen(&["nothing has this name".to_owned()]).is_err());
    }
}
