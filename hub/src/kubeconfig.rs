//! kubeconfig files (client-go's `v1 Config`): written for the administrator, read by our own verbs.

use std::path::{Path, PathBuf};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use freewheel_hub_pki::read_text;
use serde::Deserialize;
use serde_json::{Value, json};

/// What our verbs need of a kubeconfig.
#[derive(Debug, PartialEq, Eq)]
pub struct Access {
    /// `https://HOST:PORT[/path]`
    pub server: String,
    /// The CA that the server must descend from, PEM.
    pub ca_pem: Vec<u8>,
    /// The client's certificate, PEM.
    pub cert_pem: Vec<u8>,
    /// The client's key, PEM.
    pub key_pem: Vec<u8>,
    /// The client's token; empty for none.
    pub token: String,
}

/// By what a client has to be known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Login {
    Certificate,
    /// A certificate, a token or nothing.
    Any,
}

/// Why a kubeconfig cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum KubeconfigError {
    /// None was named.
    #[error(
        "no kubeconfig: give --kubeconfig FILE or set KUBECONFIG (the hub wrote DIR/admin.kubeconfig at its first start)"
    )]
    None,
    /// It cannot be read.
    #[error("cannot read the kubeconfig {path}")]
    Read {
        /// Which.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// It lacks something.
    #[error("the kubeconfig {path} cannot be used: {why}")]
    Unusable {
        /// Which.
        path: PathBuf,
        /// What is missing or malformed.
        why: String,
    },
}

/// The text of a kubeconfig. JSON is YAML; every reader of kubeconfigs takes it.
#[must_use]
pub fn write(name: &str, server: &str, access: (&str, &str, &str)) -> String {
    let (ca, cert, key) = access;
    let config = json!({
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": name, "cluster": {"server": server, "certificate-authority-data": STANDARD.encode(ca)}}],
        "users": [{"name": "admin", "user": {
            "client-certificate-data": STANDARD.encode(cert),
            "client-key-data": STANDARD.encode(key),
        }}],
        "contexts": [{"name": name, "context": {"cluster": name, "user": "admin"}}],
        "current-context": name,
        "preferences": {},
    });
    format!("{config:#}\n")
}

/// Whether two kubeconfigs reach the same server as the same user.
#[must_use]
pub fn same_access(old: &str, new: &str) -> bool {
    let here = Path::new(".");
    let [old, new] = [old, new].map(|text| parse(text, here, Login::Certificate));
    matches!((old, new), (Ok(old), Ok(new)) if old == new)
}

#[derive(Deserialize)]
struct File {
    #[serde(default)]
    clusters: Vec<Named>,
    #[serde(default)]
    users: Vec<Named>,
    #[serde(default)]
    contexts: Vec<Named>,
    #[serde(rename = "current-context", default)]
    current: String,
}

#[derive(Deserialize)]
struct Named {
    name: String,
    #[serde(alias = "user", alias = "context")]
    cluster: Value,
}

/// Reads the current context of the kubeconfig that is named, else of `$KUBECONFIG`.
///
/// # Errors
/// When there is none or it lacks what a client certificate login needs.
pub fn read(named: Option<&Path>) -> Result<Access, KubeconfigError> {
    let from_env =
        || std::env::var_os("KUBECONFIG").filter(|value| !value.is_empty()).map(PathBuf::from);
    let path = named.map(Path::to_path_buf).or_else(from_env).ok_or(KubeconfigError::None)?;
    read_file(path, Login::Certificate)
}

/// Reads the current context of a kubeconfig for a webhook, which may know its clients by a token, or not at all.
///
/// # Errors
/// When it says not where the webhook is, or by which CA it is known.
pub fn of_webhook(path: &Path) -> Result<Access, KubeconfigError> {
    read_file(path.to_path_buf(), Login::Any)
}

fn read_file(path: PathBuf, login: Login) -> Result<Access, KubeconfigError> {
    let text = match login {
        // A person may pipe their own into a command.
        Login::Certificate => std::fs::read_to_string(&path),
        Login::Any => read_text(&path),
    };
    let text = text.map_err(|source| KubeconfigError::Read { path: path.clone(), source })?;
    parse(&text, path.parent().unwrap_or(Path::new(".")), login)
        .map_err(|why| KubeconfigError::Unusable { path, why })
}

fn parse(text: &str, folder: &Path, login: Login) -> Result<Access, String> {
    let file: File =
        serde_saphyr::from_str(text).map_err(|e| format!("it is no kubeconfig: {e}"))?;
    let find = |list: &[Named], name: &str, what: &str| -> Result<Value, String> {
        let found = list.iter().find(|entry| entry.name == name);
        found.map(|entry| entry.cluster.clone()).ok_or_else(|| format!("it has no {what} {name:?}"))
    };
    let context = find(&file.contexts, &file.current, "context")?;
    let cluster = find(&file.clusters, context["cluster"].as_str().unwrap_or_default(), "cluster")?;
    let user = find(&file.users, context["user"].as_str().unwrap_or_default(), "user")?;
    if login == Login::Any {
        refuse_unknown(&cluster, &CLUSTER_KEYS, "cluster")?;
        refuse_unknown(&user, &USER_KEYS, "user")?;
    }
    let server = cluster["server"]
        .as_str()
        .ok_or("its cluster has no server")?
        .trim_end_matches('/')
        .to_owned();
    let has = |key: &str| !user[key].is_null() || !user[format!("{key}-data")].is_null();
    let own = |key: &str| match login {
        Login::Any if !has("client-certificate") => Ok(Vec::new()),
        Login::Any | Login::Certificate => data(&user, key, folder),
    };
    Ok(Access {
        server,
        ca_pem: data(&cluster, "certificate-authority", folder)?,
        cert_pem: own("client-certificate")?,
        key_pem: own("client-key")?,
        token: user["token"].as_str().unwrap_or_default().to_owned(),
    })
}

const CLUSTER_KEYS: [&str; 4] =
    ["server", "certificate-authority", "certificate-authority-data", "extensions"];
const USER_KEYS: [&str; 5] =
    ["client-certificate", "client-certificate-data", "client-key", "client-key-data", "token"];

/// What is not done here is not done in silence: who is asked would be another one, or would be asked as nobody.
fn refuse_unknown(entry: &Value, known: &[&str], what: &str) -> Result<(), String> {
    let given = entry.as_object().into_iter().flatten().filter(|(_, value)| !value.is_null());
    let mut unknown = given.map(|(key, _)| key).filter(|key| !known.contains(&key.as_str()));
    match unknown.next() {
        Some(key) => Err(format!("its {what} has {key}, which the hub does not support")),
        None => Ok(()),
    }
}

/// `KEY-data` as base64, or the file that `KEY` names, relative to the kubeconfig.
fn data(entry: &Value, key: &str, folder: &Path) -> Result<Vec<u8>, String> {
    if let Some(text) = entry[format!("{key}-data")].as_str() {
        return STANDARD.decode(text.trim()).map_err(|e| format!("{key}-data is no base64: {e}"));
    }
    let file = entry[key]
        .as_str()
        .ok_or_else(|| format!("it has no {key}; the hub knows client certificates only"))?;
    let path = folder.join(file);
    read_text(&path).map(String::into_bytes).map_err(|e| format!("{key} {}: {e}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read() {
        let text = write("freewheel", "https://127.0.0.1:6443", ("CA", "CERT", "KEY"));
        let access = parse(&text, Path::new("."), Login::Certificate).unwrap();
        assert_eq!(access.server, "https://127.0.0.1:6443");
        assert_eq!(
            (access.ca_pem, access.cert_pem, access.key_pem),
            (b"CA".into(), b"CERT".into(), b"KEY".into())
        );
    }

    #[test]
    fn kubectl_s_own_yaml_is_read() {
        let yaml = "apiVersion: v1\nkind: Config\ncurrent-context: c\nclusters:\n- name: k\n  cluster:\n    server: https://h:1/\n    \
                    certificate-authority-data: Q0E=\nusers:\n- name: u\n  user:\n    client-certificate-data: Q0U=\n    client-key-data: S0U=\n\
                    contexts:\n- name: c\n  context:\n    cluster: k\n    user: u\n    namespace: x\n";
        assert_eq!(parse(yaml, Path::new("."), Login::Certificate).unwrap().server, "https://h:1");
    }

    #[test]
    fn a_webhook_may_know_its_clients_by_a_token_or_not_at_all() {
        let file = |user: &str| {
            format!(
                r#"{{"current-context": "c", "contexts": [{{"name": "c", "context": {{"cluster": "k", "user": "u"}}}}],
                "clusters": [{{"name": "k", "cluster": {{"server": "https://h", "certificate-authority-data": "Q0E="}}}}],
                "users": [{{"name": "u", "user": {user}}}]}}"#
            )
        };
        let here = Path::new(".");
        for (user, token) in [("{}", ""), (r#"{"token": "t"}"#, "t")] {
            assert!(parse(&file(user), here, Login::Certificate).is_err());
            let access = parse(&file(user), here, Login::Any).unwrap();
            assert_eq!((&*access.token, access.cert_pem.len()), (token, 0));
        }
        let both = file(r#"{"client-certificate-data": "Q0U=", "client-key-data": "S0U="}"#);
        assert_eq!(parse(&both, here, Login::Any).unwrap().cert_pem, b"CE");
        assert!(parse(&file(r#"{"client-certificate-data": "Q0U="}"#), here, Login::Any).is_err());
    }

    #[test]
    fn what_is_not_supported_is_named() {
        let text = write("freewheel", "https://127.0.0.1:6443", ("CA", "CERT", "KEY"));
        for (part, key) in [("user", "tokenFile"), ("user", "exec"), ("cluster", "tls-server-name")]
        {
            let mut file: Value = serde_json::from_str(&text).unwrap();
            file[format!("{part}s")][0][part][key] = "x".into();
            let why = parse(&file.to_string(), Path::new("."), Login::Any).unwrap_err();
            assert!(why.contains(key), "{why}");
        }
    }

    #[test]
    fn what_is_missing_is_named() {
        assert!(
            parse("{}", Path::new("."), Login::Certificate).unwrap_err().contains("no context")
        );
        assert!(
            parse("[1", Path::new("."), Login::Certificate).unwrap_err().contains("no kubeconfig")
        );
    }
}
