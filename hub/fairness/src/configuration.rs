//! What a cluster says about its requests: its levels, and the schemas that lead to them.
//!
//! Guarantees:
//! - of the schemas that match, the one of the lowest precedence counts, then of the first name; one whose level is not
//!   there counts for nothing (`the_first_schema_that_matches_counts`);
//! - levels that are suggested act, whatever a cluster calls its own (`levels_that_come_first_are_put_out_by_no_name`);
//! - what a cluster has itself is in the place of what has the same name (`a_clusters_own_is_in_the_place_of_a_name`);
//! - no cluster makes its requests be compared with more than [`SCHEMAS_MAX`] schemas, or keeps more than
//!   [`LEVELS_MAX`] levels (`too_many_are_left_out_and_counted`), and what all of its schemas say together is bounded,
//!   too, whatever is in one of them (`a_cluster_s_rules_are_bounded_together`).

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::flow_schema::FlowSchema;
use crate::priority_level::PriorityLevel;
use crate::request::Request;
use crate::rule::Caller;

/// Schemas of a cluster that act. Each request is compared with them.
pub const SCHEMAS_MAX: usize = 500;
/// Names, groups, verbs, resources, namespaces and paths in the schemas of a cluster that act: to compare a request with
/// all of them takes a tenth of a millisecond, which nobody has waited for a seat for yet.
pub const TERMS_MAX: usize = 10_000;
/// Levels of a cluster that act.
pub const LEVELS_MAX: usize = 100;

/// Where those belong who match nothing.
pub(crate) const CATCH_ALL: &str = "catch-all";
const EXEMPT: &str = "exempt";

/// Levels and schemas of one cluster.
#[derive(Debug)]
pub struct Configuration {
    /// In the order in which they are asked.
    schemas: Vec<(Arc<FlowSchema>, Arc<PriorityLevel>)>,
    pub(crate) levels: BTreeMap<Arc<str>, Arc<PriorityLevel>>,
    catch_all: (Arc<FlowSchema>, Arc<PriorityLevel>),
    /// How many schemas and levels do not act because there are too many.
    pub left_out: usize,
}

/// Which levels act, of those that a cluster has, in the order in which they come: two always, and of the rest so many that
/// they are [`LEVELS_MAX`].
pub fn levels_that_act<N: AsRef<str>>(
    in_turn: impl IntoIterator<Item = N>,
) -> impl Iterator<Item = N> {
    let is_fixed = |name: &N| matches!(name.as_ref(), EXEMPT | CATCH_ALL);
    let (fixed, others): (Vec<_>, Vec<_>) = in_turn.into_iter().partition(is_fixed);
    fixed.into_iter().chain(others.into_iter().take(LEVELS_MAX - 2))
}

/// Whose a request is.
#[derive(Clone, Debug)]
pub struct Class {
    /// The schema that it belongs to.
    pub schema: Arc<FlowSchema>,
    /// That schema's level.
    pub level: Arc<PriorityLevel>,
    pub(crate) flow: u64,
}

impl Configuration {
    /// These, of which later ones are in the place of earlier ones of their name, and keep that when there are too many.
    /// `None` without `catch-all`.
    #[must_use]
    pub fn of(
        levels: impl IntoIterator<Item = Arc<PriorityLevel>>,
        schemas: impl IntoIterator<Item = Arc<FlowSchema>>,
    ) -> Option<Self> {
        let (mut all_levels, mut in_turn) = (BTreeMap::new(), Vec::new());
        for level in levels {
            let name = level.name.clone();
            if all_levels.insert(name.clone(), level).is_none() {
                in_turn.push(name);
            }
        }
        let schemas: BTreeMap<_, _> =
            schemas.into_iter().map(|schema| (schema.name.clone(), schema)).collect();
        let all = all_levels.len() + schemas.len();
        let kept = levels_that_act(in_turn);
        let levels: BTreeMap<_, _> =
            kept.filter_map(|name| all_levels.remove_entry(&name)).collect();
        let catch_all = (schemas.get(CATCH_ALL)?.clone(), levels.get(CATCH_ALL)?.clone());
        let mut schemas: Vec<_> = schemas.into_values().collect();
        schemas.sort_by(|one, other| {
            (one.precedence, &one.name).cmp(&(other.precedence, &other.name))
        });
        let mut terms = 0;
        schemas.retain(|schema| {
            // One that leads nowhere is not asked.
            let asked = if levels.contains_key(&*schema.level) { schema.terms } else { 0 };
            let fits = terms + asked <= TERMS_MAX;
            terms += if fits { asked } else { 0 };
            fits
        });
        schemas.truncate(SCHEMAS_MAX);
        let left_out = all - levels.len() - schemas.len();
        let leads =
            |schema: Arc<FlowSchema>| levels.get(&*schema.level).cloned().map(|it| (schema, it));
        let schemas = schemas.into_iter().filter_map(leads).collect();
        Some(Self { schemas, levels, catch_all, left_out })
    }

    /// Whose this request is.
    #[must_use]
    pub fn classify(&self, request: &Request<'_>) -> Class {
        let caller = Caller::of(request);
        let found = self.schemas.iter().find(|(schema, _)| schema.matches(&caller));
        let (schema, level) = found.unwrap_or(&self.catch_all).clone();
        let flow = schema.flow(request);
        Class { schema, level, flow }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::request::What;
    use crate::testing::{limited, request, schema, wide};

    fn catch_all() -> (Arc<PriorityLevel>, Arc<FlowSchema>) {
        (limited(CATCH_ALL, 5, None), schema(CATCH_ALL, 10_000, "nobody", CATCH_ALL))
    }

    fn class(configuration: &Configuration, user: &str) -> (String, String) {
        let class = configuration.classify(&request(user));
        (class.schema.name.to_string(), class.level.name.to_string())
    }

    #[test]
    fn the_first_schema_that_matches_counts() {
        let ((level, last), high) = (catch_all(), limited("high", 10, None));
        let schemas = [
            last,
            schema("z", 10, "ann", "high"),
            schema("b", 20, "*", "high"),
            schema("a", 20, "*", "catch-all"),
            schema("lost", 1, "*", "nowhere"),
        ];
        let configuration = Configuration::of([level, high], schemas).unwrap();
        let named = |(schema, level): (&str, &str)| (schema.to_owned(), level.to_owned());
        assert_eq!(class(&configuration, "ann"), named(("z", "high")));
        assert_eq!(class(&configuration, "bob"), named(("a", "catch-all")));
        let none = Request { what: What::Path("/api"), ..request("bob") };
        assert_eq!(&*configuration.classify(&none).schema.name, "catch-all");
        let flows = ["ann", "ann", "bob"].map(|user| configuration.classify(&request(user)).flow);
        assert!(flows[0] == flows[1] && flows[0] != flows[2]);
    }

    #[test]
    fn a_clusters_own_is_in_the_place_of_a_name() {
        let (level, last) = catch_all();
        let (high, own) = (limited("high", 10, None), limited("high", 90, None));
        let schemas = [last, schema("all", 9, "*", "catch-all"), schema("all", 9, "*", "high")];
        let configuration = Configuration::of([level, high, own], schemas).unwrap();
        let class = configuration.classify(&request("ann"));
        assert_eq!((&*class.level.name, class.level.shares), ("high", 90));
    }

    #[test]
    fn a_cluster_s_rules_are_bounded_together() {
        let (level, last) = catch_all();
        let heavy = (0..30).map(|at| wide(&format!("heavy-{at:02}"), 5, 1_000));
        let light = schema("light", 6, "ann", CATCH_ALL);
        let schemas = heavy.chain([light, last]);
        let configuration = Configuration::of([level], schemas).unwrap();
        assert_eq!(configuration.left_out, 21);
        // What is small enough acts yet.
        assert_eq!(class(&configuration, "ann").0, "light");
        assert_eq!(class(&configuration, "user-7").0, "heavy-00");
    }

    #[test]
    fn levels_that_come_first_are_put_out_by_no_name() {
        let (level, last) = catch_all();
        let own = (0..LEVELS_MAX).map(|at| limited(&format!("a-{at:03}"), 1, None));
        let levels = [level, limited("workload-low", 10, None)].into_iter().chain(own);
        let schemas = [schema("service-accounts", 9, "ann", "workload-low"), last];
        let configuration = Configuration::of(levels, schemas).unwrap();
        assert_eq!(class(&configuration, "ann").1, "workload-low");
        assert_eq!((configuration.levels.len(), configuration.left_out), (99, 3));
    }

    #[test]
    fn too_many_are_left_out_and_counted() {
        let (level, last) = catch_all();
        let levels = (0..LEVELS_MAX).map(|at| limited(&format!("l-{at:03}"), 1, None));
        let schemas = (0..SCHEMAS_MAX).map(|at| schema(&format!("s-{at:03}"), 9, "x", "l-000"));
        let configuration =
            Configuration::of(levels.chain([level]), schemas.chain([last])).unwrap();
        assert_eq!((configuration.levels.len(), configuration.schemas.len()), (99, SCHEMAS_MAX));
        assert_eq!(configuration.left_out, 3);
        assert_eq!(class(&configuration, "ann").0, "catch-all");
    }
}
