//! What others have to know of a kind before they know an object of it: what its file says once, where the kind is made.

/// Whose plan a change of an object may concern. What is in a spoke's own cluster concerns that spoke, whatever it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Concern {
    /// The node that it is bound to, in any cluster: it runs there.
    ItsNode,
    /// Nodes with something bound to them of its namespace, which may use it.
    ItsNamespace,
    /// The spoke of its name.
    ItsName,
    /// Any node: it may be reached there.
    Everybody,
}

/// How `spec.selector` chooses others by their labels.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Selection {
    /// Labels with their values.
    Labels,
    /// A LabelSelector: `matchLabels` and `matchExpressions`.
    LabelSelector,
    /// The same, and an empty one chooses all that there are.
    LabelSelectorOrAll,
}

/// What sets a kind apart; most have none of these.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Trait {
    /// A change of its spec does not count up metadata.generation: it has no spec, or nobody follows it.
    CountsNoGeneration,
    /// It is 1 for ever: what matters of it never changes.
    CountsOneGeneration,
    /// A change of its status counts it up as well: it is written by the door of all the rest.
    CountsStatus,
    /// A change of annotations counts it up as well: they reach what its controller makes of it.
    CountsAnnotations,
    /// Other objects live in it: it goes when they and its `spec.finalizers` are gone, and is `Terminating` until then.
    HasContent,
    /// It holds cluster IPs and node ports, which are given in its own transaction.
    HoldsAddresses,
    /// It goes before all else when its namespace does, so that what guards it outlives it.
    GoesFirst,
    /// It runs on a node: it has a priority and tolerations, and may name a runtime class.
    RunsOnNodes,
    /// Others run on it, once it is ready.
    RunsPods,
    /// A node has the one of its name, and writes no other.
    BelongsToNodeOfItsName,
    /// A node has those that say so in `spec.nodeName`, and makes and takes away no others.
    BelongsToNodeThatItNames,
    /// It asks for storage, and how much of that it may ask for may be limited.
    AsksForStorage,
    /// No quota counts it, as upstream: what happened is said of others, and is gone after an hour.
    CountsInNoQuota,
    /// It says how much of what its namespace may have: others are counted against it.
    SetsQuota,
    /// A change by its main door may make it count for more in a quota; others count for as much as long as they are there.
    GrowsInQuota,
    /// Quotas call it by its plural, too, as they did before `count/`.
    CountedByPlural,
    /// Its values are sealed in the store with the hub's own keys.
    IsSealed,
    /// It stands for a spoke: who accepts it, which set it joins, and since when it is tainted is looked after.
    StandsForSpoke,
    /// It gives its namespace a set of clusters: who binds one has to have a right to that.
    BindsClusterSet,
    /// It neither owns, nor is owned by, anything that matters.
    HasNoOwners,
    /// What it owns stays when it is deleted and nothing is said of that (`OrphanDependents`).
    LeavesItsOwn,
    /// A delete that is done answers with what it was, and not with a Status: somebody waits for its end.
    ShowsTheDeleted,
    /// A spoke's session renews it: what is read says so as of now.
    IsRenewedBySessions,
    /// A PUT of what is not there makes it (`AllowCreateOnUpdate`).
    CreatesOnUpdate,
    /// A PUT has to name the resourceVersion that it replaces (no `AllowUnconditionalUpdate`).
    NamesWhatItReplaces,
    /// It asks for a certificate: who asks, and what is given, is checked where the caller is known.
    AsksForACertificate,
    /// Objects of it make kinds.
    DefinesKinds,
    /// Elsewhere it is a custom resource: its definition is there for those who look for one, and the hub serves it whatever
    /// that says.
    HasDefinition,
}

/// Name rules of apimachinery's validation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NameRule {
    /// RFC 1123 subdomain, 253 characters.
    DnsSubdomain,
    /// RFC 1123 label, 63 characters.
    DnsLabel,
    /// RFC 1035 label (starts with a letter), 63 characters: Services.
    Dns1035Label,
    /// Any path segment: no `/`, no `%`, not `.` or `..`.
    PathSegment,
}
