//! Prose for `explain`, in our own words.

/// How OpenAPI calls types of each version.
pub(crate) const VERSIONS: [&str; 2] = ["addon.v1alpha1.", "addon.v1beta1."];

/// Type, field, and what is said of it, in each version that has it.
pub(crate) const DESCRIPTIONS: &[(&str, &str, &str)] = &[
    (
        "ClusterManagementAddOn",
        "",
        "An add-on that clusters may get. A ManagedClusterAddOn of its name in a cluster's namespace puts it on that \
         cluster.",
    ),
    ("ClusterManagementAddOn", "spec", "Which clusters get it, and how it is set up there."),
    ("ClusterManagementAddOn", "status", "How it is set up, and how far that is."),
    ("ClusterManagementAddOnSpec", "", "Which clusters get an add-on, and how it is set up there."),
    ("ClusterManagementAddOnSpec", "addOnMeta", "What people call it."),
    (
        "ClusterManagementAddOnSpec",
        "supportedConfigs",
        "Kinds that it is set up by, and the object that is taken where nobody names another one.",
    ),
    (
        "ClusterManagementAddOnSpec",
        "defaultConfigs",
        "Objects that it is set up by where nobody names others.",
    ),
    ("ClusterManagementAddOnSpec", "installStrategy", "Which clusters get it by themselves."),
    (
        "InstallStrategy",
        "type",
        "Manual: those on which somebody puts it. Placements: those that placements choose.",
    ),
    (
        "InstallStrategy",
        "placements",
        "Whose clusters get it. Where two choose a cluster the later one sets it up.",
    ),
    (
        "PlacementStrategy",
        "configs",
        "Objects that it is set up by on these clusters, in place of the defaults of their kinds.",
    ),
    (
        "PlacementStrategy",
        "rolloutStrategy",
        "In which order these clusters get a configuration that has changed.",
    ),
    (
        "ClusterManagementAddOnStatus",
        "installProgressions",
        "How far each placement's clusters are.",
    ),
    (
        "ManagedClusterAddOn",
        "",
        "An add-on on one cluster: that whose namespace it lies in. It has the name of its ClusterManagementAddOn.",
    ),
    ("ManagedClusterAddOn", "spec", "How it is set up on this cluster."),
    ("ManagedClusterAddOn", "status", "How it is there."),
    (
        "ManagedClusterAddOnSpec",
        "configs",
        "Objects that it is set up by here, in place of those of their kinds that its ClusterManagementAddOn names.",
    ),
    (
        "ManagedClusterAddOnSpec",
        "installNamespace",
        "Where its agent keeps its lease. An AddOnDeploymentConfig says it better.",
    ),
    (
        "ManagedClusterAddOnStatus",
        "conditions",
        "Available, Configured, Progressing, ManifestApplied and RegistrationApplied, each with its reason.",
    ),
    (
        "ManagedClusterAddOnStatus",
        "configReferences",
        "Objects that it is set up by, with the digest of what they say that is wanted, and of what is there.",
    ),
    ("ManagedClusterAddOnStatus", "supportedConfigs", "Kinds that may be named in spec.configs."),
    ("ManagedClusterAddOnStatus", "namespace", "Where its agent keeps its lease."),
    (
        "HealthCheck",
        "mode",
        "Lease: by the lease of its agent. Customized: by what its controller says.",
    ),
    ("AddOnDeploymentConfig", "", "How an add-on is set up on clusters."),
    ("AddOnDeploymentConfig", "spec", "Variables, a namespace, and what its pods get."),
    (
        "AddOnDeploymentConfigSpec",
        "customizedVariables",
        "Values for {{NAME}} in an AddOnTemplate.",
    ),
    ("AddOnDeploymentConfigSpec", "nodePlacement", "On which nodes its pods run."),
    (
        "AddOnDeploymentConfigSpec",
        "registries",
        "Where images come from, in place of where they say.",
    ),
    ("AddOnDeploymentConfigSpec", "proxyConfig", "A proxy that its containers are told of."),
    (
        "AddOnDeploymentConfigSpec",
        "agentInstallNamespace",
        "Where it is on the cluster; empty: where its template says.",
    ),
    ("AddOnDeploymentConfigSpec", "resourceRequirements", "What its containers ask for."),
    (
        "AddOnTemplate",
        "",
        "What an add-on is made of on a cluster: manifests with places for variables.",
    ),
    ("AddOnTemplate", "spec", "Manifests, and the add-on that they are of."),
    ("AddOnTemplateSpec", "addonName", "The add-on that it is of."),
    (
        "AddOnTemplateSpec",
        "agentSpec",
        "What is applied on the cluster, as in a ManifestWork. {{CLUSTER_NAME}} stands for the cluster's name.",
    ),
];
