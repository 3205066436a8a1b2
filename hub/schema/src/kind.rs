//! One descriptor per kind: names, verbs, and the strategy that is special about it. It is a value: whoever needs one
//! asks the registry of its logical cluster ([`crate::registry`]) and holds it as long as that takes.

mod column;
mod converter;
mod custom;
mod form;
mod role;
mod strategy;
mod subresource;
mod written;

use std::borrow::Cow;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use serde_json::Value;

use crate::gvk::{Gvk, Gvr, Text};
use crate::object::Resource;
use crate::types::{Schema, TypeFacts, Typed};

pub use column::Column;
pub use converter::{Converter, Converting};
pub use form::Form;
pub use role::{Concern, NameRule, Selection, Trait};
pub use strategy::{
    FieldPaths, ScalePaths, Strategy, drop_status, keep, keep_all_but_status, keep_metadata,
    keep_other_half, reset_all_but_status,
};
pub use subresource::{READ_WRITE, Subresource};

/// Verbs that most resources have.
pub const ALL_VERBS: &[&str] =
    &["create", "delete", "deletecollection", "get", "list", "patch", "update", "watch"];

/// Tells kinds apart for as long as the process runs: one that is registered again is another one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct KindId(u64);

/// A kind that the API serves in one version. It is a value: built in, or registered at run time in one
/// logical cluster, and gone when nobody holds it any more.
pub struct Kind {
    id: KindId,
    gvk: Gvk,
    api_version: Text,
    plural: Text,
    singular: Text,
    list_kind: Text,
    storage: Resource,
    schema: Option<Schema>,
    form: Option<Box<dyn Form>>,
    converter: Option<Arc<dyn Converter>>,
    origin: Text,
    /// There is a path to it. A version that is only stored has none.
    pub served: bool,
    /// `["deploy"]`
    pub short_names: Vec<Text>,
    /// `["all"]`
    pub categories: Vec<Text>,
    /// Lives in namespaces.
    pub namespaced: bool,
    /// Exists in the root only: a spoke's own cluster does not serve it.
    pub root_only: bool,
    /// Verbs as discovery lists them, sorted.
    pub verbs: &'static [&'static str],
    /// Subresources such as `status`, `scale`, `log`, `binding`, `approval`, sorted by name.
    pub subresources: Vec<Subresource>,
    /// The resource that stores it, when it shares that with another group (events).
    pub stored_as: Option<Gvr>,
    /// Columns of its Table, the first being Name.
    pub columns: Cow<'static, [Column]>,
    /// What a name of it may be.
    pub name_rule: NameRule,
    /// Fields that selectors may name, beside metadata.name and metadata.namespace.
    pub fields: Vec<Text>,
    /// Other names of those: older ones, or a group's own spelling.
    pub aliases: Vec<(Text, Text)>,
    /// What whoever uses it at all is warned of.
    pub deprecated: Option<Text>,
    /// Why it is kept without effect: what whoever makes or changes one is warned of.
    pub without_effect: Option<&'static str>,
    /// Subresources that kube-apiserver has here, and this hub does not serve yet.
    pub lacks: &'static [&'static str],
    traits: &'static [Trait],
    /// An annotation that the hub itself keeps on its objects, and that counts among nobody's.
    pub hubs_annotation: Option<&'static str>,
    /// Whose plan a change may concern.
    pub concern: Option<Concern>,
    /// How it chooses others, when it does.
    pub selection: Option<Selection>,
    /// The kind of its controller, where that says how many replicas it has.
    pub scaled_by: Option<&'static str>,
    /// What is special about it.
    pub strategy: Box<dyn Strategy>,
}

impl Kind {
    /// A kind in namespaces, with all verbs and no subresource; what differs is said by the methods that
    /// follow.
    #[must_use]
    pub fn new(gvk: Gvk, plural: impl Into<Text>, strategy: impl Strategy + 'static) -> Self {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        let plural = plural.into();
        let api_version = if gvk.group.is_empty() {
            gvk.version.clone()
        } else {
            format!("{}/{}", gvk.group, gvk.version).into()
        };
        Self {
            id: KindId(NEXT.fetch_add(1, Ordering::Relaxed)),
            api_version,
            singular: gvk.kind.to_ascii_lowercase().into(),
            list_kind: format!("{}List", gvk.kind).into(),
            storage: Resource::new(&gvk.group, &plural),
            schema: None,
            form: None,
            converter: None,
            origin: Text::default(),
            served: true,
            gvk,
            plural,
            short_names: Vec::new(),
            categories: Vec::new(),
            namespaced: true,
            root_only: false,
            verbs: ALL_VERBS,
            subresources: Vec::new(),
            stored_as: None,
            columns: Cow::Borrowed(&[]),
            name_rule: NameRule::DnsSubdomain,
            fields: Vec::new(),
            aliases: Vec::new(),
            deprecated: None,
            without_effect: None,
            lacks: &[],
            traits: &[],
            hubs_annotation: None,
            concern: None,
            selection: None,
            scaled_by: None,
            strategy: Box::new(strategy),
        }
    }

    /// It lives in no namespace.
    #[must_use]
    pub fn cluster_scoped(self) -> Self {
        Self { namespaced: false, ..self }
    }

    /// Discovery names no singular of it.
    #[must_use]
    pub fn without_singular(self) -> Self {
        Self { singular: Text::default(), ..self }
    }

    /// It exists in the root only.
    #[must_use]
    pub fn in_the_root_only(self) -> Self {
        Self { root_only: true, ..self }
    }

    /// What people type for it.
    #[must_use]
    pub fn short<T: Into<Text>>(self, names: impl IntoIterator<Item = T>) -> Self {
        Self { short_names: names.into_iter().map(Into::into).collect(), ..self }
    }

    /// It is listed by these names together with others: `all`.
    #[must_use]
    pub fn category<T: Into<Text>>(self, names: impl IntoIterator<Item = T>) -> Self {
        Self { categories: names.into_iter().map(Into::into).collect(), ..self }
    }

    /// It has these verbs only; sorted.
    #[must_use]
    pub fn verbs(self, verbs: &'static [&'static str]) -> Self {
        Self { verbs, ..self }
    }

    /// It is a view of what another group stores, in a resource that this one has to be served beside.
    #[must_use]
    pub fn stored_as(self, other: Gvr) -> Self {
        let storage = Resource::new(&other.group, &other.resource);
        Self { storage, stored_as: Some(other), ..self }
    }

    /// What `kubectl get` prints of it; its strategy has the rows.
    #[must_use]
    pub fn columns(self, columns: impl Into<Cow<'static, [Column]>>) -> Self {
        Self { columns: columns.into(), ..self }
    }

    /// What a name of it may be, when that is not any DNS subdomain.
    #[must_use]
    pub fn names_are(self, name_rule: NameRule) -> Self {
        Self { name_rule, ..self }
    }

    /// Selectors may name these fields; its strategy reads them.
    #[must_use]
    pub fn fields<T: Into<Text>>(self, names: impl IntoIterator<Item = T>) -> Self {
        Self { fields: names.into_iter().map(Into::into).collect(), ..self }
    }

    /// Selectors may name a field by the first of each, and mean the second.
    #[must_use]
    pub fn aliases<T: Into<Text>>(self, pairs: impl IntoIterator<Item = (T, T)>) -> Self {
        let pairs = pairs.into_iter().map(|(name, field)| (name.into(), field.into()));
        Self { aliases: pairs.collect(), ..self }
    }

    /// Whoever uses it at all is warned of this.
    #[must_use]
    pub fn deprecated(self, why: impl Into<Text>) -> Self {
        Self { deprecated: Some(why.into()), ..self }
    }

    /// It is stored and given back, and nothing comes of it; whoever makes or changes one is told why.
    #[must_use]
    pub fn without_effect(self, why: &'static str) -> Self {
        Self { without_effect: Some(why), ..self }
    }

    /// kube-apiserver has these subresources of it, and this hub does not serve them yet.
    #[must_use]
    pub fn lacks(self, subresources: &'static [&'static str]) -> Self {
        Self { lacks: subresources, ..self }
    }

    /// What sets it apart.
    #[must_use]
    pub fn with(self, traits: &'static [Trait]) -> Self {
        Self { traits, ..self }
    }

    /// The hub itself keeps this annotation on its objects.
    #[must_use]
    pub fn keeps(self, annotation: &'static str) -> Self {
        Self { hubs_annotation: Some(annotation), ..self }
    }

    /// Plans are made of it.
    #[must_use]
    pub fn concerns(self, whom: Concern) -> Self {
        Self { concern: Some(whom), ..self }
    }

    /// It chooses others by their labels.
    #[must_use]
    pub fn selects_by(self, how: Selection) -> Self {
        Self { selection: Some(how), ..self }
    }

    /// An object of this kind that controls it says how many replicas it has.
    #[must_use]
    pub fn scaled_by(self, kind: &'static str) -> Self {
        Self { scaled_by: Some(kind), ..self }
    }

    /// Its fields are known by a schema of its own.
    #[must_use]
    pub fn with_schema(self, schema: Schema) -> Self {
        Self { schema: Some(schema), ..self }
    }

    /// It has a subresource with a body of its own kind.
    #[must_use]
    pub fn subresource(self, name: &'static str, verbs: &'static [&'static str]) -> Self {
        let kind = self.gvk.kind.clone();
        self.and(Subresource { name: name.into(), kind, group_version: None, verbs })
    }

    /// It has a subresource with a body of another kind of its group.
    #[must_use]
    pub fn subresource_of(
        self,
        name: &'static str,
        kind: &'static str,
        verbs: &'static [&'static str],
    ) -> Self {
        let (name, kind) = (name.into(), kind.into());
        self.and(Subresource { name, kind, group_version: None, verbs })
    }

    /// It has a subresource with a body of another group.
    #[must_use]
    pub fn foreign_subresource(
        self,
        name: &'static str,
        body: Gvk,
        verbs: &'static [&'static str],
    ) -> Self {
        let Gvk { group, version, kind } = body;
        let group_version = Some((group, version));
        self.and(Subresource { name: name.into(), kind, group_version, verbs })
    }

    /// Its `status` is written by a door of its own.
    #[must_use]
    pub fn with_status(self) -> Self {
        self.subresource("status", READ_WRITE)
    }

    /// Its replicas are counted and set by a Scale.
    #[must_use]
    pub fn with_scale(self) -> Self {
        let scale = Gvk::new("autoscaling", "v1", "Scale");
        self.foreign_subresource("scale", scale, READ_WRITE)
    }

    fn and(mut self, sub: Subresource) -> Self {
        let place = self.subresources.partition_point(|other| other.name < sub.name);
        self.subresources.insert(place, sub);
        self
    }

    /// What tells it from every other kind that there was or will be.
    #[must_use]
    pub fn id(&self) -> KindId {
        self.id
    }

    /// Group, version and kind.
    #[must_use]
    pub fn gvk(&self) -> &Gvk {
        &self.gvk
    }

    /// API group, empty for core.
    #[must_use]
    pub fn group(&self) -> &str {
        &self.gvk.group
    }

    /// Version: `v1`.
    #[must_use]
    pub fn version(&self) -> &str {
        &self.gvk.version
    }

    /// Kind: `Deployment`.
    #[must_use]
    pub fn kind(&self) -> &str {
        &self.gvk.kind
    }

    /// Plural resource: `deployments`.
    #[must_use]
    pub fn plural(&self) -> &str {
        &self.plural
    }

    /// `deployment`
    #[must_use]
    pub fn singular(&self) -> &str {
        &self.singular
    }

    /// `v1`, `apps/v1`.
    #[must_use]
    pub fn api_version(&self) -> &str {
        &self.api_version
    }

    /// Where its objects are stored.
    #[must_use]
    pub fn storage(&self) -> &Resource {
        &self.storage
    }

    /// What is known of its fields: by its own schema, else by the committed table.
    #[must_use]
    pub fn facts(&self) -> Option<TypeFacts<'_>> {
        match (&self.form, &self.schema) {
            (Some(form), _) => form.facts(),
            (None, Some(schema)) => Some(schema.facts()),
            (None, None) => TypeFacts::find(self.group(), self.version(), self.kind()),
        }
    }

    /// Texts for `Warning:` headers of whoever makes or changes an object of it.
    #[must_use]
    pub fn warnings(&self, object: &Value) -> Vec<String> {
        let why = self.without_effect.iter();
        let mut found: Vec<String> =
            why.map(|why| format!("{}: kept without effect: {why}", self.kind())).collect();
        found.extend(self.strategy.warnings(object));
        found
    }

    /// Whether this sets it apart.
    #[must_use]
    pub fn has(&self, one: Trait) -> bool {
        self.traits.contains(&one)
    }

    /// The field that a selector means by this name.
    #[must_use]
    pub fn field_meant<'a>(&'a self, name: &'a str) -> &'a str {
        self.aliases.iter().find(|(alias, _)| alias == name).map_or(name, |(_, field)| field)
    }

    /// What a write by this door leaves as it is: nobody comes to own it by that.
    #[must_use]
    pub fn reset_fields(&self, subresource: Option<&str>) -> FieldPaths {
        if subresource.is_none() && self.subresource_named("status").is_none() {
            // Its status, if it has one, is a field like any other.
            return &[];
        }
        self.strategy.reset_fields(subresource)
    }

    /// The subresource of this name.
    #[must_use]
    pub fn subresource_named(&self, name: &str) -> Option<&Subresource> {
        self.subresources.iter().find(|sub| sub.name == name)
    }
}

impl<'a> From<&'a Kind> for Typed<'a> {
    fn from(kind: &'a Kind) -> Self {
        let (group, version) = (kind.group(), kind.version());
        Self { group, version, kind: kind.kind(), facts: kind.facts(), form: kind.form() }
    }
}

impl std::fmt::Debug for Kind {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}, Kind={}", self.api_version(), self.kind())
    }
}
