//! As what the agents of an add-on are registered at the hub, and what they may do there.
//!
//! ```text
//! AddOnTemplate spec.registration ─▶ Registration: KubeClient    the hub signs; permissions: bindings in the root
//!                                                  CustomSigner  somebody else's CA signs
//! ```
//!
//! Guarantees:
//! - what an agent may do is bound to names that it alone has, and not to the group of the agents of all clusters, as
//!   upstream does it (`rights_are_bound_to_names_of_one_cluster`);
//! - bindings of one namespace do not take each other's place (`each_role_has_a_binding_of_its_own`);
//! - whatever is wrong with what agents may do, as what they are registered can be read
//!   (`a_broken_template_says_still_as_what_agents_are_registered`);
//! - of what others ask for, only what is the add-on's own on its cluster is given (`nobody_asks_for_others_names`).

use serde_json::{Value, json};

/// Who signs what a client of the hub's API shows.
pub const CLIENT_SIGNER: &str = "kubernetes.io/kube-apiserver-client";
/// Where the CA of a custom signer is when nobody says.
pub const MANAGER_NAMESPACE: &str = "open-cluster-management-hub";

const NAMES: &str = "system:open-cluster-management:";
const RBAC: &str = "rbac.authorization.k8s.io";

/// An add-on on a cluster.
#[derive(Clone, Copy, Debug)]
pub struct AgentOf<'a> {
    /// The add-on.
    pub add_on: &'a str,
    /// The cluster.
    pub cluster: &'a str,
}

/// As what an agent is known.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Subject {
    /// Its name.
    pub user: String,
    /// Its groups.
    pub groups: Vec<String>,
    /// Its organisational units.
    pub units: Vec<String>,
}

/// The Secret with the CA of a custom signer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SigningCa {
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
}

/// Who signs for an agent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Signer {
    /// The hub, for its own API, where the agent may do this.
    Hub(Vec<Permission>),
    /// Somebody else.
    Custom {
        /// `example.com/signer`
        name: String,
        /// By this.
        ca: SigningCa,
    },
}

/// What an agent may do at the hub.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Permission {
    /// In which namespace.
    pub namespace: String,
    /// That is its cluster's own: the binding goes with the add-on there.
    pub is_of_cluster: bool,
    /// `roleRef`
    pub role: Value,
}

/// A RoleBinding of an agent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Binding {
    /// Its name.
    pub name: String,
    /// What it gives.
    pub permission: Permission,
}

/// One way in which an agent is registered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Registration {
    /// Who signs.
    pub signer: Signer,
    /// For whom.
    pub subject: Subject,
}

/// Why an agent is not registered.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NotRegistered {
    /// A permission says nothing of its role.
    #[error("current cluster is required when the HubPermission type is CurrentCluster")]
    NoCurrentCluster,
    /// A permission says nothing of its namespace.
    #[error("single namespace is required when the HubPermission type is SingleNamespace")]
    NoSingleNamespace,
    /// A role is neither of a namespace nor of the cluster.
    #[error("the role of a HubPermission is a Role or a ClusterRole")]
    NoRole,
    /// A custom signer is not named.
    #[error("custom signer is nil")]
    NoSigner,
}

fn text<'a>(value: &'a Value, pointer: &str) -> &'a str {
    value.pointer(pointer).and_then(Value::as_str).unwrap_or_default()
}

fn texts(value: &Value) -> Vec<String> {
    let all = value.as_array().into_iter().flatten();
    all.filter_map(|it| it.as_str().map(str::to_owned)).collect()
}

impl AgentOf<'_> {
    /// The group of its agents on this cluster.
    #[must_use]
    pub fn group(&self) -> String {
        format!("{NAMES}cluster:{}:addon:{}", self.cluster, self.add_on)
    }

    /// The group of its agents on all clusters.
    #[must_use]
    pub fn group_of_all(&self) -> String {
        format!("{NAMES}addon:{}", self.add_on)
    }

    /// The name of an agent that a template registers.
    fn template_agent(&self) -> String {
        format!("{}-agent", self.add_on)
    }

    fn user(&self, agent: &str) -> String {
        format!("{}:agent:{agent}", self.group())
    }

    fn subject(&self, agent: &str) -> Subject {
        let groups = vec![self.group(), self.group_of_all()];
        Subject { user: self.user(agent), groups, units: Vec::new() }
    }

    /// The bindings that these registrations come to.
    #[must_use]
    pub fn bindings(&self, registrations: &[Registration]) -> Vec<Binding> {
        let mut out: Vec<Binding> = Vec::new();
        let hub = registrations.iter().filter_map(|it| match &it.signer {
            Signer::Hub(permissions) => Some(permissions),
            Signer::Custom { .. } => None,
        });
        for permission in hub.flatten() {
            if out.iter().any(|it| it.permission == *permission) {
                continue;
            }
            let kind = text(&permission.role, "/kind").to_lowercase();
            let is_like = |it: &Binding| {
                let own = &it.permission;
                own.namespace == permission.namespace
                    && own.is_of_cluster == permission.is_of_cluster
                    && own.role["kind"] == permission.role["kind"]
            };
            // The first of its kind is called as upstream calls it. No name of a cluster has a colon, and none is empty.
            let is_first = !out.iter().any(is_like);
            let mut name = format!("open-cluster-management:{}:{kind}:agent", self.add_on);
            if !permission.is_of_cluster {
                // Those of other clusters are in the same namespace.
                name = format!("{name}:{}", self.cluster);
            } else if !is_first {
                name.push(':');
            }
            if !is_first {
                name = format!("{name}:{}", text(&permission.role, "/name"));
            }
            out.push(Binding { name, permission: permission.clone() });
        }
        out
    }

    /// Whom a binding of this agent names: nobody on another cluster.
    #[must_use]
    pub fn bound(&self, registrations: &[Registration]) -> Vec<Value> {
        let hub = registrations.iter().filter(|it| matches!(it.signer, Signer::Hub(_)));
        let mut users: Vec<&str> = hub.map(|it| &*it.subject.user).collect();
        users.dedup();
        let user = |name: &str| json!({"kind": "User", "apiGroup": RBAC, "name": name});
        let group = json!({"kind": "Group", "apiGroup": RBAC, "name": self.group()});
        users.into_iter().map(user).chain([group]).collect()
    }
}

impl Registration {
    /// Those of a template's spec.
    ///
    /// # Errors
    /// What is left out of it.
    pub fn of_template(template: &Value, of: AgentOf<'_>) -> Result<Vec<Self>, NotRegistered> {
        let all = template["registration"].as_array().into_iter().flatten();
        let agent = of.template_agent();
        let mut out = Vec::new();
        for asked in all {
            let kind = text(asked, "/type");
            if kind == "KubeClient" {
                let permissions = asked.pointer("/kubeClient/hubPermissions");
                let permissions = permissions.and_then(Value::as_array).into_iter().flatten();
                let permissions =
                    permissions.map(|it| permission(it, of)).collect::<Result<Vec<_>, _>>()?;
                let signer = Signer::Hub(permissions.into_iter().flatten().collect());
                out.push(Self { signer, subject: of.subject(&agent) });
            } else if kind == "CustomSigner" {
                out.push(custom(&asked["customSigner"], of, &agent)?);
            }
        }
        Ok(out)
    }

    /// As what a template registers agents, as far as that can be read, without what they may do.
    #[must_use]
    pub fn readable(template: &Value, of: AgentOf<'_>) -> Vec<Self> {
        let all = template["registration"].as_array().into_iter().flatten();
        let agent = of.template_agent();
        let read = |asked: &Value| {
            let kind = text(asked, "/type");
            if kind == "KubeClient" {
                let subject = of.subject(&agent);
                return Some(Self { signer: Signer::Hub(Vec::new()), subject });
            }
            custom(&asked["customSigner"], of, &agent).ok().filter(|_| kind == "CustomSigner")
        };
        all.filter_map(read).collect()
    }

    /// Those that others ask the hub for in the status of an instance, as a controller of the add-on's own does; and what of
    /// them is not given, as it is not the add-on's.
    #[must_use]
    pub fn of_status(status: &Value, of: AgentOf<'_>) -> (Vec<Self>, Vec<String>) {
        let all = status["registrations"].as_array().into_iter().flatten();
        let (mut out, mut refused) = (Vec::new(), Vec::new());
        for asked in all.filter(|it| it["signerName"] == CLIENT_SIGNER) {
            let mut subject = of.subject(of.add_on);
            let (user, groups) = (text(asked, "/subject/user"), texts(&asked["subject"]["groups"]));
            if !user.is_empty() {
                user.clone_into(&mut subject.user);
            }
            if !groups.is_empty() {
                subject.groups = groups;
            }
            // Whom the hub knows is in it anyway.
            subject.groups.retain(|group| group != "system:authenticated");
            match of.foreign_name(&subject) {
                Some(name) => refused.push(name.to_owned()),
                None => out.push(Self { signer: Signer::Hub(Vec::new()), subject }),
            }
        }
        (out, refused)
    }

    /// The Secret in which an agent finds its credentials.
    #[must_use]
    pub fn secret(&self, add_on: &str) -> String {
        match &self.signer {
            Signer::Hub(_) => format!("{add_on}-hub-kubeconfig"),
            Signer::Custom { name, .. } => {
                format!("{add_on}-{}-client-cert", name.replace('/', "-"))
            }
        }
    }

    /// As the status of an instance has it.
    #[must_use]
    pub fn to_status(&self) -> Value {
        let Subject { user, groups, units } = &self.subject;
        let mut subject = json!({"user": user, "groups": groups});
        if !units.is_empty() {
            subject["organizationUnit"] = json!(units);
        }
        json!({"signerName": self.signer_name(), "subject": subject})
    }

    /// By whom it is signed.
    #[must_use]
    pub fn signer_name(&self) -> &str {
        match &self.signer {
            Signer::Hub(_) => CLIENT_SIGNER,
            Signer::Custom { name, .. } => name,
        }
    }
}

impl AgentOf<'_> {
    /// A name in it that is not this agent's.
    fn foreign_name<'s>(&self, subject: &'s Subject) -> Option<&'s str> {
        let own = self.user("");
        let agent = subject.user.strip_prefix(&own);
        if agent.is_none_or(str::is_empty) {
            return Some(&subject.user);
        }
        let (group, of_all) = (self.group(), self.group_of_all());
        if !subject.groups.contains(&group) {
            return Some(&subject.user);
        }
        subject.groups.iter().map(String::as_str).find(|it| *it != group && *it != of_all)
    }
}

fn permission(asked: &Value, of: AgentOf<'_>) -> Result<Option<Permission>, NotRegistered> {
    let kind = text(asked, "/type");
    if kind == "CurrentCluster" {
        let name = asked.pointer("/currentCluster/clusterRoleName").and_then(Value::as_str);
        let name = name.ok_or(NotRegistered::NoCurrentCluster)?;
        let role = json!({"apiGroup": RBAC, "kind": "ClusterRole", "name": name});
        let namespace = of.cluster.to_owned();
        return Ok(Some(Permission { namespace, is_of_cluster: true, role }));
    }
    if kind == "SingleNamespace" {
        let of_one = asked.get("singleNamespace").filter(|it| it.is_object());
        let of_one = of_one.ok_or(NotRegistered::NoSingleNamespace)?;
        let (kind, name) = (text(of_one, "/roleRef/kind"), text(of_one, "/roleRef/name"));
        if !["Role", "ClusterRole"].contains(&kind) {
            return Err(NotRegistered::NoRole);
        }
        let role = json!({"apiGroup": RBAC, "kind": kind, "name": name});
        let namespace = text(of_one, "/namespace").to_owned();
        if namespace.is_empty() {
            return Err(NotRegistered::NoSingleNamespace);
        }
        return Ok(Some(Permission { namespace, is_of_cluster: false, role }));
    }
    Ok(None)
}

fn custom(asked: &Value, of: AgentOf<'_>, agent: &str) -> Result<Registration, NotRegistered> {
    let name = text(asked, "/signerName");
    if name.is_empty() {
        return Err(NotRegistered::NoSigner);
    }
    let namespace = text(asked, "/signingCA/namespace");
    let namespace = if namespace.is_empty() { MANAGER_NAMESPACE } else { namespace };
    let ca = SigningCa {
        namespace: namespace.to_owned(),
        name: text(asked, "/signingCA/name").to_owned(),
    };
    let mut subject = of.subject(agent);
    if let Some(said) = asked.get("subject").filter(|it| it.is_object()) {
        let (groups, units) = (texts(&said["groups"]), texts(&said["organizationUnit"]));
        subject = Subject { user: text(said, "/user").to_owned(), groups, units };
        if subject.user.is_empty() {
            subject.user = of.user(of.add_on);
        }
    }
    Ok(Registration { signer: Signer::Custom { name: name.to_owned(), ca }, subject })
}

#[cfg(test)]
mod tests {
    use super::*;

    const OF: AgentOf<'_> = AgentOf { add_on: "web", cluster: "pi-7" };
    const GROUP: &str = "system:open-cluster-management:cluster:pi-7:addon:web";
    const ALL: &str = "system:open-cluster-management:addon:web";

    fn template(registration: &Value) -> Result<Vec<Registration>, NotRegistered> {
        Registration::of_template(&json!({"registration": registration}), OF)
    }

    fn current(role: &str) -> Value {
        json!({"type": "CurrentCluster", "currentCluster": {"clusterRoleName": role}})
    }

    fn single(namespace: &str, kind: &str, role: &str) -> Value {
        json!({"type": "SingleNamespace", "singleNamespace": {"namespace": namespace,
            "roleRef": {"apiGroup": RBAC, "kind": kind, "name": role}}})
    }

    fn kube(permissions: &[Value]) -> Value {
        json!({"type": "KubeClient", "kubeClient": {"hubPermissions": permissions}})
    }

    #[test]
    fn rights_are_bound_to_names_of_one_cluster() {
        let all = template(&json!([kube(&[current("cm")])])).unwrap();
        assert_eq!(
            all[0].to_status(),
            json!({"signerName": CLIENT_SIGNER,
                "subject": {"user": format!("{GROUP}:agent:web-agent"), "groups": [GROUP, ALL]}})
        );
        assert_eq!(all[0].secret("web"), "web-hub-kubeconfig");
        let names: Vec<Value> =
            OF.bound(&all).into_iter().map(|mut it| it["name"].take()).collect();
        assert_eq!(names, [format!("{GROUP}:agent:web-agent"), GROUP.to_owned()]);
        let bindings = OF.bindings(&all);
        assert_eq!(bindings[0].name, "open-cluster-management:web:clusterrole:agent");
        assert_eq!(bindings[0].permission.namespace, "pi-7");
        assert_eq!(template(&Value::Null), Ok(Vec::new()));
        let none = json!([kube(&[json!({"type": "CurrentCluster"})])]);
        assert_eq!(template(&none), Err(NotRegistered::NoCurrentCluster));
        let none = json!([kube(&[json!({"type": "SingleNamespace"})])]);
        assert_eq!(template(&none), Err(NotRegistered::NoSingleNamespace));
    }

    #[test]
    fn each_role_has_a_binding_of_its_own() {
        let permissions = [
            current("a"),
            current("b"),
            current("a"),
            single("shared", "ClusterRole", "a"),
            single("shared", "Role", "r"),
            // As the cluster is called, and as the bindings of others in its namespace.
            current("pi-7"),
            single("pi-7", "ClusterRole", "a"),
            single("shared", "ClusterRole", "pi-7"),
        ];
        let bindings = OF.bindings(&template(&json!([kube(&permissions)])).unwrap());
        let names: Vec<(&str, &str)> =
            bindings.iter().map(|it| (&*it.permission.namespace, &*it.name)).collect();
        assert_eq!(
            names,
            [
                ("pi-7", "open-cluster-management:web:clusterrole:agent"),
                ("pi-7", "open-cluster-management:web:clusterrole:agent::b"),
                ("shared", "open-cluster-management:web:clusterrole:agent:pi-7"),
                ("shared", "open-cluster-management:web:role:agent:pi-7"),
                ("pi-7", "open-cluster-management:web:clusterrole:agent::pi-7"),
                ("pi-7", "open-cluster-management:web:clusterrole:agent:pi-7"),
                ("shared", "open-cluster-management:web:clusterrole:agent:pi-7:pi-7"),
            ]
        );
        // What another cluster has in a namespace has another name, however roles are called.
        let other = AgentOf { cluster: "pi-7-b", ..OF };
        let two = json!([kube(&[single("shared", "Role", "x"), single("shared", "Role", "y")])]);
        let two = Registration::of_template(&json!({"registration": two}), other).unwrap();
        let others = other.bindings(&two);
        assert!(others.iter().all(|it| !names.iter().any(|(_, name)| *name == it.name)));
    }

    #[test]
    fn a_broken_template_says_still_as_what_agents_are_registered() {
        let good = json!({"type": "CustomSigner",
            "customSigner": {"signerName": "a.io/b", "signingCA": {"name": "ca"}}});
        let broken = json!([
            kube(&[json!({"type": "CurrentCluster"})]), {"type": "CustomSigner"}, good]);
        assert_eq!(template(&broken), Err(NotRegistered::NoCurrentCluster));
        let read = Registration::readable(&json!({"registration": broken}), OF);
        let mended = template(&json!([kube(&[]), good])).unwrap();
        assert_eq!(read, mended);
        for (namespace, kind, why) in [
            ("shared", "Roll", NotRegistered::NoRole),
            ("", "Role", NotRegistered::NoSingleNamespace),
        ] {
            assert_eq!(template(&json!([kube(&[single(namespace, kind, "r")])])), Err(why));
        }
    }

    #[test]
    fn a_custom_signer_is_asked_for_its_subject() {
        let asked = json!({"signerName": "a.io/b", "signingCA": {"name": "ca"},
            "subject": {"user": "u", "groups": ["g"], "organizationUnit": ["o"]}});
        let all = template(&json!([{"type": "CustomSigner", "customSigner": asked}])).unwrap();
        assert_eq!(
            all[0].to_status(),
            json!({"signerName": "a.io/b",
                "subject": {"user": "u", "groups": ["g"], "organizationUnit": ["o"]}})
        );
        assert_eq!(all[0].secret("web"), "web-a.io-b-client-cert");
        let ca = SigningCa { namespace: MANAGER_NAMESPACE.to_owned(), name: "ca".to_owned() };
        assert_eq!(all[0].signer, Signer::Custom { name: "a.io/b".to_owned(), ca });
        let plain = json!({"signerName": "a.io/b", "signingCA": {"name": "ca", "namespace": "n"}});
        let all = template(&json!([{"type": "CustomSigner", "customSigner": plain}])).unwrap();
        assert_eq!(all[0].subject, OF.subject("web-agent"));
        let none = json!([{"type": "CustomSigner"}]);
        assert_eq!(template(&none), Err(NotRegistered::NoSigner));
    }

    #[test]
    fn nobody_asks_for_others_names() {
        let of = |user: &str, groups: &[&str]| {
            let asked =
                json!({"signerName": CLIENT_SIGNER, "subject": {"user": user, "groups": groups}});
            let status = json!({"registrations": [asked, {"signerName": "a.io/b"}]});
            Registration::of_status(&status, OF)
        };
        let (given, refused) = of("", &[]);
        assert_eq!((&given[0].subject, refused.len()), (&OF.subject("web"), 0));
        let own = format!("{GROUP}:agent:x");
        let (given, _) = of(&own, &[GROUP, "system:authenticated"]);
        assert_eq!((&*given[0].subject.user, given[0].subject.groups.len()), (&*own, 1));
        let elsewhere = "system:open-cluster-management:cluster:pi-8:addon:web";
        for (user, groups, name) in [
            (&*format!("{elsewhere}:agent:x"), &[GROUP][..], None),
            (&*own, &[GROUP, elsewhere], Some(elsewhere)),
            (&*own, &[GROUP, "system:masters"], Some("system:masters")),
            (&*own, &[ALL], None),
            ("jane", &[GROUP], None),
        ] {
            let (given, refused) = of(user, groups);
            assert_eq!((given.len(), refused), (0, vec![name.unwrap_or(user).to_owned()]));
        }
    }
}
