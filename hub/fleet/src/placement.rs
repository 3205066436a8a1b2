//! What a Placement asks for.

use serde::Deserialize;
use serde_json::Value;

/// A Placement's spec.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct Placement {
    /// Sets that it chooses from; none: all that its namespace is bound to.
    pub cluster_sets: Vec<String>,
    /// How many clusters; `None`: all.
    pub number_of_clusters: Option<i32>,
    /// One of these has to hold.
    pub predicates: Vec<Predicate>,
    /// How scores are made.
    pub prioritizer_policy: PrioritizerPolicy,
    /// Not too many from one place.
    pub spread_policy: SpreadPolicy,
    /// Taints that it puts up with.
    pub tolerations: Vec<Toleration>,
    /// How decisions are grouped.
    pub decision_strategy: DecisionStrategy,
    /// `ClusterName` or `Score`.
    pub sort_by: String,
    /// How often mere changes of scores are written: `1m`.
    pub score_rate_limit: String,
}

/// All of what it says has to hold.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct Predicate {
    /// The selector.
    pub required_cluster_selector: RequiredSelector,
}

/// What clusters have to match.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct RequiredSelector {
    /// A LabelSelector over labels.
    pub label_selector: Option<Value>,
    /// `matchExpressions` over claims.
    pub claim_selector: Option<Value>,
    /// Expressions that all have to be true.
    pub cel_selector: CelSelector,
}

/// Expressions about `managedCluster`.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct CelSelector {
    /// The expressions.
    pub cel_expressions: Vec<String>,
}

/// How scores are made.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct PrioritizerPolicy {
    /// `Additive`: over the defaults; `Exact`: these only.
    pub mode: String,
    /// Scores with their weights.
    pub configurations: Vec<PrioritizerConfig>,
}

/// One score with its weight.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct PrioritizerConfig {
    /// Which score.
    pub score_coordinate: Option<ScoreCoordinate>,
    /// From −10 to 10.
    pub weight: i32,
}

/// Which score.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct ScoreCoordinate {
    /// `BuiltIn` or `AddOn`.
    #[serde(rename = "type")]
    pub kind: String,
    /// `Balance`, `Steady`, …
    pub built_in: String,
    /// An add-on's score.
    pub add_on: Option<AddOnScore>,
}

/// An add-on's score.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct AddOnScore {
    /// Name of the AddOnPlacementScores.
    pub resource_name: String,
    /// Which of their scores.
    pub score_name: String,
}

/// Not too many from one place.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct SpreadPolicy {
    /// The first counts most.
    pub spread_constraints: Vec<SpreadConstraint>,
}

/// One way to tell places apart.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct SpreadConstraint {
    /// A label or a claim.
    pub topology_key: String,
    /// `Label` or `Claim`.
    pub topology_key_type: String,
    /// How many more one place may have than another.
    pub max_skew: i32,
    /// `DoNotSchedule` or `ScheduleAnyway`.
    pub when_unsatisfiable: String,
}

/// A taint that is put up with.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct Toleration {
    /// Key of the taint; empty: any.
    pub key: String,
    /// `Equal` or `Exists`.
    pub operator: String,
    /// Value of the taint.
    pub value: String,
    /// Effect of the taint; empty: any.
    pub effect: String,
    /// For how long; `None`: for ever.
    pub toleration_seconds: Option<i64>,
}

/// How decisions are grouped.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct DecisionStrategy {
    /// The groups.
    pub group_strategy: GroupStrategy,
}

/// Groups of decisions.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct GroupStrategy {
    /// Groups by name, with whom they take; the rest follows.
    pub decision_groups: Vec<DecisionGroup>,
    /// A number, or a percentage of all.
    pub clusters_per_decision_group: Value,
}

/// A group by name.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct DecisionGroup {
    /// Its name.
    pub group_name: String,
    /// Whom it takes.
    pub group_cluster_selector: RequiredSelector,
}

impl Placement {
    /// From the object.
    ///
    /// # Errors
    /// When its spec has another form.
    pub fn read(object: &Value) -> Result<Self, serde_json::Error> {
        let spec = object.get("spec").filter(|spec| !spec.is_null());
        spec.map_or_else(|| Ok(Self::default()), Self::deserialize)
    }

    /// Names of the AddOnPlacementScores that its scores come from.
    pub fn score_resources(&self) -> impl Iterator<Item = &str> {
        let all = self.prioritizer_policy.configurations.iter();
        let coordinates = all.filter_map(|config| config.score_coordinate.as_ref());
        coordinates.filter_map(|one| one.add_on.as_ref()).map(|add_on| &*add_on.resource_name)
    }
}
