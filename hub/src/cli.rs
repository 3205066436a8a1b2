//! The command line of the hub, stable: tests and tools rely on it.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Parser, Subcommand, ValueEnum};
use freewheel_hub_schema::duration;
use freewheel_hub_schema::quantity::Quantity;
use freewheel_link::digest::Digest;
use freewheel_link::profile::Profile;

/// Freewheel's hub: a Kubernetes API for people, QUIC for devices.
#[derive(Parser)]
#[command(name = "hub", version)]
pub struct Cli {
    #[command(subcommand)]
    pub verb: Verb,
}

/// What the hub can be asked.
#[derive(Subcommand)]
pub enum Verb {
    /// Run the hub; the first start makes its CA and DIR/admin.kubeconfig
    Serve(Box<ServeOptions>),
    /// Tokens with which spokes join, and logins for tools that push and pull modules
    Token {
        #[command(subcommand)]
        verb: TokenVerb,
    },
    /// The keys that Secrets are sealed with in the hub's store
    Keys {
        #[command(subcommand)]
        verb: KeysVerb,
    },
    /// Approve the certificate request of spokes that asked to join, and accept them
    Accept(AcceptOptions),
    /// Decommission devices: they are never let in again, and wipe all that they hold
    ///
    /// The keys of the devices are revoked at once: no certificate and no join token lets them in again. Their ManagedClusters
    /// are deleted, with all that belongs to them. At its next contact, however late that is, a device hears of it, ends its
    /// pods, wipes Secrets, data and identity, sends a receipt signed with its key, and stays off. The order and the receipt
    /// are a ConfigMap in kube-system for each key (`kubectl -n kube-system get configmaps -l freewheel.dev/device-order`);
    /// without names, this prints them all. Said again after it broke off, it goes on; a device that has come under the name
    /// since is refused without its --key. The board may join anew as another device, with a new key, when DIR/decommissioned
    /// is removed there.
    Decommission(DecommissionOptions),
    /// Give the place of a device to a new board, which has joined under another name
    ///
    /// The new board's key takes over the name and the ManagedCluster OLD: its labels, annotations, taints and set, the works
    /// and add-ons in its namespace, its own cluster with all objects in it, and the pods that are bound to it. Nothing of that
    /// is moved, and UIDs stay; the pods start on the new board, which hears of its name at its next contact and keeps its own
    /// key. The ManagedCluster NEW is deleted with all that is in it. The key of the old device is revoked, and with it what
    /// add-ons had there for the hub (tokens of pods, and what a signer of an add-on's own has signed, end by themselves).
    /// Where it ever comes back, it wipes all that it holds, as with `hub decommission`, so that nothing runs twice. What its
    /// pods wrote into volumes on the old board is not copied: take it off before. Said again after it broke off, this goes
    /// on; a board that has come as NEW since is refused without its --key.
    Replace(ReplaceOptions),
    /// Print things
    Get {
        #[command(subcommand)]
        verb: GetVerb,
    },
    /// Print what Placements and ManifestWorkReplicaSets would do, without doing it
    ///
    /// Each object of the file is applied in a dry run, with the caller's rights, and the hub says of it what its controllers
    /// would do: which clusters are chosen and which are not and why, which modules those fetch and what these ask for beyond
    /// what was there, and the waves in their order. `kubectl apply --dry-run=server` prints the same as warnings. Clusters
    /// are named to those who may list ManagedClusters. A Placement has to be there before works can be planned over it.
    Plan(PlanOptions),
    /// Push a Wasm component into the hub's registry
    Push(PushOptions),
    /// List what is in the hub's registry
    Images(ImagesOptions),
    /// Show what a name in the hub's registry stands for
    Inspect(ImageOptions),
    /// Remove a tag from the hub's registry, or by digest an image with all its tags
    Rm(RmOptions),
    /// Compile one module in this process; the hub starts this itself
    #[command(hide = true)]
    CompileModule {
        #[arg(long)]
        profile: Profile,
        #[arg(long)]
        component: PathBuf,
        #[arg(long)]
        artifact: PathBuf,
        #[arg(long)]
        digest: Digest,
    },
}

/// `hub serve`
#[derive(Args)]
pub struct ServeOptions {
    /// Folder for everything the hub keeps
    #[arg(long)]
    pub data: PathBuf,
    /// Address of the Kubernetes API (HTTPS)
    #[arg(long, default_value = "127.0.0.1:6443")]
    pub listen: SocketAddr,
    /// Address of the link to the spokes (QUIC, UDP)
    #[arg(long, default_value = "127.0.0.1:6444")]
    pub link: SocketAddr,
    /// Name or address under which people and spokes reach this hub [default: the address listened on, for
    /// 0.0.0.0 the one of the default route]
    #[arg(long)]
    pub advertise: Option<String>,
    /// File of `token,user,uid,"group1,group2"` on each line, by which callers are known
    #[arg(long)]
    pub token_auth_file: Option<PathBuf>,
    /// File with a policy of abac.authorization.kubernetes.io/v1beta1 on each line, beside the roles of the root
    #[arg(long)]
    pub authorization_policy_file: Option<PathBuf>,
    /// File with an AuthenticationConfiguration of apiserver.config.k8s.io: OpenID providers whose tokens are believed
    #[arg(long)]
    pub authentication_config: Option<PathBuf>,
    /// The same of one provider
    #[command(flatten)]
    pub oidc: OidcOptions,
    /// kubeconfig of a webhook that is asked whose a token is
    #[arg(long)]
    pub authentication_token_webhook_config_file: Option<PathBuf>,
    /// kubeconfig of a webhook that is asked what callers may do in the root, after roles and policies
    #[arg(long)]
    pub authorization_webhook_config_file: Option<PathBuf>,
    /// How long what that webhook said of a token counts
    #[arg(long, default_value = "2m", value_parser = ttl)]
    pub authentication_token_webhook_cache_ttl: Duration,
    /// How long what the webhook that decides has allowed counts
    #[arg(long, default_value = "5m", value_parser = ttl)]
    pub authorization_webhook_cache_authorized_ttl: Duration,
    /// How long what it has not allowed counts
    #[arg(long, default_value = "30s", value_parser = ttl)]
    pub authorization_webhook_cache_unauthorized_ttl: Duration,
    /// File with an AuthorizationConfiguration of apiserver.config.k8s.io: who decides what callers may do, in which order;
    /// webhooks among them with conditions in CEL [default: nodes, roles, the policy file, the webhook]
    #[arg(long, conflicts_with_all = [
        "authorization_webhook_config_file",
        "authorization_webhook_cache_authorized_ttl",
        "authorization_webhook_cache_unauthorized_ttl",
    ])]
    pub authorization_config: Option<PathBuf>,
    /// `https://…` that tokens of service accounts are from [default: where the API is reached]
    #[arg(long)]
    pub service_account_issuer: Option<String>,
    /// File with an EncryptionConfiguration of apiserver.config.k8s.io: what is sealed in the store, and with which keys
    /// [default: Secrets and keys of tokens, with those of DIR/pki/sealing.keys]
    #[arg(long)]
    pub encryption_provider_config: Option<PathBuf>,
    /// Most bytes that the cluster of a spoke may have in the store, such as 500Mi
    #[arg(long, default_value = "1Gi", value_parser = quota)]
    pub cluster_quota_bytes: u64,
    /// What is told to the audit log
    #[command(flatten)]
    pub audit: AuditOptions,
    /// Where objects are stored
    #[arg(long, value_enum, default_value = "redb")]
    pub store: StoreKind,
}

/// One OpenID provider whose tokens are believed, as kube-apiserver's flags say it.
#[derive(Args)]
#[group(
    requires_all = ["oidc_issuer_url", "oidc_client_id"],
    conflicts_with = "authentication_config"
)]
pub struct OidcOptions {
    /// `https://…` of an OpenID provider whose tokens are believed; in the place of --authentication-config
    #[arg(long)]
    pub oidc_issuer_url: Option<String>,
    /// The audience that its tokens have to be for
    #[arg(long)]
    pub oidc_client_id: Option<String>,
    /// File with the authorities that vouch for it [default: those of this host]
    #[arg(long)]
    pub oidc_ca_file: Option<PathBuf>,
    /// The claim that is a user's name [default: sub]
    #[arg(long)]
    pub oidc_username_claim: Option<String>,
    /// What is put before names, nothing with `-` [default: `URL#`, nothing where the claim is email]
    #[arg(long, allow_hyphen_values = true)]
    pub oidc_username_prefix: Option<String>,
    /// The claim that is a user's groups, a text or a list
    #[arg(long)]
    pub oidc_groups_claim: Option<String>,
    /// What is put before groups
    #[arg(long)]
    pub oidc_groups_prefix: Option<String>,
    /// A claim that a token has to have, with this value; may be given several times
    #[arg(long = "oidc-required-claim", value_name = "KEY=VALUE", value_parser = pair)]
    pub oidc_required_claims: Vec<(String, String)>,
    /// Algorithms that its tokens may be signed by, with commas [default: RS256]
    #[arg(long, value_delimiter = ',')]
    pub oidc_signing_algs: Vec<String>,
}

/// What is told of requests, and where.
#[derive(Args)]
pub struct AuditOptions {
    /// File with a Policy of audit.k8s.io: which requests the audit log is told of, and how much
    #[arg(long)]
    pub audit_policy_file: Option<PathBuf>,
    /// File that the audit log is written to; `-` is standard output
    #[arg(long)]
    pub audit_log_path: Option<PathBuf>,
    /// Megabytes from which on the file is put aside and a new one begun
    #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..))]
    pub audit_log_maxsize: u32,
    /// Days that a file is kept that was put aside; 0 for no end
    #[arg(long, default_value_t = 0)]
    pub audit_log_maxage: u32,
    /// How many files that were put aside are kept; 0 for all
    #[arg(long, default_value_t = 0)]
    pub audit_log_maxbackup: usize,
}

/// Backends of the store.
#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum StoreKind {
    /// Embedded, under --data
    Redb,
}

/// `hub keys …`
#[derive(Subcommand)]
pub enum KeysVerb {
    /// Make a new key; the hub seals everything anew with it and drops the old ones
    Rotate(RotateOptions),
    /// Add the keys of a copy of pki/sealing.keys to those that are there, so that values of several copies can be read
    Merge(MergeOptions),
}

/// `hub keys merge`
#[derive(Args)]
pub struct MergeOptions {
    /// The hub's folder, on this machine
    #[arg(long)]
    pub data: PathBuf,
    /// The copy
    pub file: PathBuf,
}

/// `hub keys rotate`
#[derive(Args)]
pub struct RotateOptions {
    /// The hub's folder, on this machine
    #[arg(long)]
    pub data: PathBuf,
}

/// `hub token …`
#[derive(Subcommand)]
pub enum TokenVerb {
    /// Make a token and print the line that a device runs to join, or that logs a tool in
    Create(TokenOptions),
}

/// `hub token create`
#[derive(Args)]
pub struct TokenOptions {
    /// How long it can be used, for example 30m, 24h, 7d; 36500d at most
    #[arg(long, default_value = "24h", value_parser = lifetime)]
    pub ttl: Duration,
    /// Accept the spoke that joins with it, without `hub accept`
    #[arg(long, conflicts_with = "registry")]
    pub accept: bool,
    /// Any number of devices may join with it until it ends; without this, the first that uses it
    #[arg(long, conflicts_with = "registry")]
    pub reusable: bool,
    /// Make a login to the hub's registry instead, for docker, oras, wkg and the like
    #[arg(long)]
    pub registry: bool,
    /// Else $KUBECONFIG
    #[arg(long)]
    pub kubeconfig: Option<PathBuf>,
}

/// `hub accept`
#[derive(Args)]
pub struct AcceptOptions {
    /// Names of the spokes
    #[arg(required = true)]
    pub names: Vec<String>,
    /// Else $KUBECONFIG
    #[arg(long)]
    pub kubeconfig: Option<PathBuf>,
}

/// `hub decommission`
#[derive(Args)]
pub struct DecommissionOptions {
    /// Names of the devices; without any, what became of those that are decommissioned is printed
    pub names: Vec<String>,
    /// The key of the device that is meant, where one of its name was decommissioned before, or its ManagedCluster is gone
    #[arg(long, requires = "names")]
    pub key: Option<String>,
    /// Else $KUBECONFIG
    #[arg(long)]
    pub kubeconfig: Option<PathBuf>,
}

/// `hub replace`
#[derive(Args)]
pub struct ReplaceOptions {
    /// The name that stays
    pub old: String,
    /// The name under which the new board has joined, which goes
    pub new: String,
    /// Also while the old device is connected: its pods end there, and it wipes all that it holds
    #[arg(long)]
    pub force: bool,
    /// The key of the new board, where one of its name has taken this place before
    #[arg(long)]
    pub key: Option<String>,
    /// Else $KUBECONFIG
    #[arg(long)]
    pub kubeconfig: Option<PathBuf>,
}

/// `hub get …`
#[derive(Subcommand)]
pub enum GetVerb {
    /// Print a kubeconfig, of the root or of one spoke's own API: the administrator's, or somebody else's
    Kubeconfig(KubeconfigOptions),
}

/// `hub get kubeconfig`
#[derive(Args)]
pub struct KubeconfigOptions {
    /// A spoke: the kubeconfig then speaks to that cluster alone
    #[arg(long)]
    pub cluster: Option<String>,
    /// For somebody of this name, who may do what roles give them, instead of for an administrator
    #[arg(long)]
    pub user: Option<String>,
    /// A group that they are a member of; may be given several times
    #[arg(long = "group", requires = "user")]
    pub groups: Vec<String>,
    /// Else $KUBECONFIG
    #[arg(long)]
    pub kubeconfig: Option<PathBuf>,
}

/// `hub images`
#[derive(Args)]
pub struct ImagesOptions {
    /// Else $KUBECONFIG
    #[arg(long)]
    pub kubeconfig: Option<PathBuf>,
}

/// `hub rm`
#[derive(Args)]
pub struct RmOptions {
    /// NAME:TAG, or NAME@DIGEST
    pub name: String,
    /// Also what pods run, which then cannot start again
    #[arg(long)]
    pub force: bool,
    /// Else $KUBECONFIG
    #[arg(long)]
    pub kubeconfig: Option<PathBuf>,
}

/// `hub inspect`
#[derive(Args)]
pub struct ImageOptions {
    /// NAME, NAME:TAG or NAME@DIGEST
    pub name: String,
    /// Else $KUBECONFIG
    #[arg(long)]
    pub kubeconfig: Option<PathBuf>,
}

/// `hub plan`
#[derive(Args)]
pub struct PlanOptions {
    /// YAML or JSON, of one object or more; `-` is standard input
    #[arg(short = 'f', long)]
    pub filename: PathBuf,
    /// Where objects are that do not say so
    #[arg(short, long, default_value = "default")]
    pub namespace: String,
    /// Else $KUBECONFIG
    #[arg(long)]
    pub kubeconfig: Option<PathBuf>,
}

/// `hub push`
#[derive(Args)]
pub struct PushOptions {
    /// A Wasm component
    pub file: PathBuf,
    /// NAME or NAME:TAG, as pods will write it in `image:`; the hub's own HOST:PORT/ before it is fine
    pub name: String,
    /// Return when the module is stored, not when it is compiled for the devices that are known
    #[arg(long)]
    pub no_wait: bool,
    /// Else $KUBECONFIG
    #[arg(long)]
    pub kubeconfig: Option<PathBuf>,
}

/// What a cluster has from the start, and an object of the largest size, fit in.
const CLUSTER_QUOTA_BYTES_MIN: i64 = 4 << 20;

/// `1Gi`, `500M`, `1073741824`.
fn quota(text: &str) -> Result<u64, String> {
    let amount: Quantity = text.parse().map_err(|_| format!("{text:?} is no amount as 500Mi"))?;
    let bytes = amount.value();
    if bytes < CLUSTER_QUOTA_BYTES_MIN {
        return Err(format!("a cluster needs {} MiB at least", CLUSTER_QUOTA_BYTES_MIN >> 20));
    }
    u64::try_from(bytes).map_err(|error| error.to_string())
}

/// `5m0s`, as kube-apiserver's flags have it; nothing at all with `0s`.
fn ttl(text: &str) -> Result<Duration, String> {
    let read = duration::read(text).map_err(|error| error.to_string())?;
    Duration::try_from(read).map_err(|_| format!("{text:?} is less than nothing"))
}

/// `key=value`, as kube-apiserver's flags have it.
fn pair(text: &str) -> Result<(String, String), String> {
    let (key, value) = text.split_once('=').ok_or("malformed pair, expect string=string")?;
    Ok((key.trim().to_owned(), value.trim().to_owned()))
}

/// A century is more than any token should live, and keeps dates within four digits.
const LIFETIME_MAX: Duration = Duration::from_secs(100 * 365 * 86_400);

/// Seconds of a unit that a lifetime may be said in alone.
const LIFETIME_UNITS: [(char, u64); 4] = [('s', 1), ('m', 60), ('h', 3600), ('d', 86_400)];

/// `90s`, `1h30m`, and days: `7d`.
fn lifetime(text: &str) -> Result<Duration, String> {
    let time = in_one_unit(text).or_else(|| ttl(text).ok());
    match time.filter(|time| Duration::from_secs(1) <= *time) {
        Some(time) if LIFETIME_MAX < time => Err(format!(
            "{text:?} is more than {}d, a century: after that the year in which it ends might have more than the four \
             digits that a date in a Secret has",
            LIFETIME_MAX.as_secs() / 86_400
        )),
        Some(time) => Ok(time),
        None => Err(format!("{text:?} is no duration such as 90s, 30m, 24h or 7d")),
    }
}

/// A number and its unit. One that is beyond all bounds is as much as there can be.
fn in_one_unit(text: &str) -> Option<Duration> {
    let (number, seconds) = LIFETIME_UNITS
        .iter()
        .find_map(|(unit, seconds)| Some((text.strip_suffix(*unit)?, *seconds)))?;
    let is_number = !number.is_empty() && number.bytes().all(|sign| sign.is_ascii_digit());
    let number: u64 = number.parse().unwrap_or(u64::MAX);
    is_number.then(|| Duration::from_secs(number.saturating_mul(seconds)))
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn lifetimes() {
        assert_eq!(lifetime("24h"), Ok(Duration::from_secs(86_400)));
        assert_eq!(lifetime("7d"), Ok(Duration::from_secs(7 * 86_400)));
        assert_eq!(lifetime("1h30m"), Ok(Duration::from_secs(5_400)));
        for bad in ["", "h", "24", "-1h", "0s", "1w", "99999999999999999999h", "1é"] {
            assert!(lifetime(bad).is_err(), "{bad}");
        }
        assert_eq!(lifetime("36500d"), Ok(LIFETIME_MAX));
        for long in ["36501d", "9999999d", "99999999999999999999d", "9999999h"] {
            let why = lifetime(long).unwrap_err();
            assert!(why.starts_with(&format!("{long:?} is more than 36500d")), "{why}");
        }
    }

    #[test]
    fn times_of_webhooks_are_those_of_kube_apiserver() {
        for (text, seconds) in [("5m0s", 300), ("1m30s", 90), ("2m", 120), ("0s", 0), ("0", 0)] {
            assert_eq!(ttl(text), Ok(Duration::from_secs(seconds)), "{text}");
        }
        assert_eq!(ttl("5").unwrap_err(), "time: missing unit in duration \"5\"");
        assert!(ttl("-5m").is_err() && ttl("7d").is_err());
    }

    #[test]
    fn quotas() {
        assert_eq!(quota("1Gi"), Ok(1 << 30));
        assert_eq!(quota("5000000"), Ok(5_000_000));
        for bad in ["", "much", "0", "-1Gi", "1Mi"] {
            assert!(quota(bad).is_err(), "{bad}");
        }
    }
}
