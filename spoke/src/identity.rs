//! Who this spoke is: a key that never leaves the device, and what the hub gave for it.
//!
//! ```text
//! DIR/identity/key.der    made here, 0600     cert.der   from the hub, rewritten on rotation
//!              ca.der, fleet-root             pinned when it joined
//!              cluster, hub                   its name; where the hub was last
//! ```
//!
//! Guarantees: `cert.der` is written last, so that an identity is whole or not there; a failed join keeps the
//! key, and the next try asks with it again.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::UNIX_EPOCH;

use freewheel_link::artifact::PublicKey;
use freewheel_link::digest::Digest;
use freewheel_link::join::Token;
use freewheel_link::names::ClusterName;
use freewheel_link::quic::{ClientTls, Dialer, Endpoint};
use freewheel_link::tls::{self, Credentials, FloorClock, TlsError};
use freewheel_link::transport::{Closed, DialError};
use freewheel_spoke_agent::uplink::join::{Ask, Identity as Given, NoIdentity, join};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use tracing::info;

use crate::data::write_whole;

/// 2026-11-01: no device joins before the software that it runs was made.
const BUILT: u64 = 1_793_491_200;

/// Why there is no identity to run with.
#[derive(Debug, thiserror::Error)]
pub(crate) enum IdentityError {
    #[error(
        "{0} has no identity yet: give --hub, --token and --ca-hash, as `hub token create` prints them"
    )]
    Unjoined(PathBuf),
    #[error(
        "this device has joined as {held}, not as {asked}: leave --name out, or use another --data"
    )]
    OtherName { held: ClusterName, asked: ClusterName },
    #[error("cannot read or write the identity in {dir}")]
    Files {
        dir: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error(
        "the identity in {0} is damaged: remove that directory and join again with a new token"
    )]
    Damaged(PathBuf),
    #[error("cannot make a key")]
    Key(#[source] rcgen::Error),
    #[error(transparent)]
    Tls(#[from] TlsError),
    #[error(
        "no answer over UDP from {hub}: see that the hub runs and listens there (its --link), and that every \
         firewall on the way lets UDP to that port through; `spoke doctor --data {data}` looks again"
    )]
    Silent { hub: String, data: String },
    #[error("cannot reach the hub to join")]
    Dial(#[source] DialError),
    #[error("cannot join")]
    Join(#[source] NoIdentity),
}

/// An identity in force.
pub(crate) struct Identity {
    pub(crate) cluster: ClusterName,
    pub(crate) hub: String,
    pub(crate) fleet_root: PublicKey,
    pub(crate) certificate: Vec<u8>,
    ca: Vec<u8>,
    key: Vec<u8>,
    floor: u64,
}

/// What joining needs.
pub(crate) struct Joining {
    pub(crate) hub: String,
    pub(crate) token: Token,
    pub(crate) ca_hash: Digest,
    pub(crate) name: ClusterName,
    pub(crate) labels: Vec<(String, String)>,
}

fn home(data: &Path) -> PathBuf {
    data.join("identity")
}

/// Reads the identity; `None` when the device has not joined.
pub(crate) fn load(data: &Path) -> Result<Option<Identity>, IdentityError> {
    let dir = home(data);
    let failed = |source| IdentityError::Files { dir: dir.clone(), source };
    let read = |name: &str| match fs::read(dir.join(name)) {
        Ok(bytes) => Ok(Some(bytes)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(failed(error)),
    };
    let Some(certificate) = read("cert.der")? else { return Ok(None) };
    let damaged = || IdentityError::Damaged(dir.clone());
    let text = |name: &str| -> Result<String, IdentityError> {
        let bytes = read(name)?.ok_or_else(damaged)?;
        String::from_utf8(bytes).map_err(|_| damaged())
    };
    let joined = fs::metadata(dir.join("cert.der")).and_then(|meta| meta.modified());
    let joined = joined.ok().and_then(|time| time.duration_since(UNIX_EPOCH).ok());
    Ok(Some(Identity {
        cluster: ClusterName::try_from(text("cluster")?).map_err(|_| damaged())?,
        hub: text("hub")?,
        fleet_root: read("fleet-root")?
            .and_then(|bytes| bytes.try_into().ok())
            .ok_or_else(damaged)?,
        ca: read("ca.der")?.ok_or_else(damaged)?,
        key: read("key.der")?.ok_or_else(damaged)?,
        certificate,
        floor: joined.map_or(BUILT, |age| age.as_secs().max(BUILT)),
    }))
}

impl Identity {
    /// TLS for sessions with this identity.
    pub(crate) fn tls(&self) -> Result<ClientTls, TlsError> {
        let own = Credentials {
            chain: vec![CertificateDer::from(self.certificate.clone())],
            key: PrivateKeyDer::from(PrivatePkcs8KeyDer::from(self.key.clone())),
        };
        let ca = CertificateDer::from(self.ca.clone());
        ClientTls::new(tls::session_client(&ca, own, Arc::new(FloorClock { floor: self.floor }))?)
    }

    /// Last second of the certificate, Unix time.
    pub(crate) fn not_after(&self) -> Option<u64> {
        let (_, parsed) = x509_parser::parse_x509_certificate(&self.certificate).ok()?;
        u64::try_from(parsed.validity().not_after.timestamp()).ok()
    }

    /// Remembers where the hub is now.
    pub(crate) fn move_hub(&mut self, data: &Path, hub: &str) -> Result<(), IdentityError> {
        if self.hub != hub {
            let dir = home(data);
            write_whole(&dir.join("hub"), hub.as_bytes())
                .map_err(|source| IdentityError::Files { dir, source })?;
            hub.clone_into(&mut self.hub);
        }
        Ok(())
    }
}

/// Joins: keeps a key, asks, and waits for somebody to accept. Returns once the identity is on disk.
pub(crate) async fn enrol(
    data: &Path,
    endpoint: &Endpoint,
    joining: Joining,
) -> Result<Identity, IdentityError> {
    let dir = home(data);
    let key = own_key(&dir)?;
    let client = tls::join_client(joining.ca_hash, Arc::new(FloorClock { floor: BUILT }))?;
    let dialer = Dialer::new(endpoint.clone(), joining.hub.clone(), ClientTls::new(client)?);
    info!(hub = joining.hub, cluster = %joining.name, "joining");
    // The doctor of a device that comes no further looks there.
    write_whole(&dir.join("hub"), joining.hub.as_bytes())
        .map_err(|source| IdentityError::Files { dir: dir.clone(), source })?;
    let link = match dialer.connect().await {
        Ok(link) => link,
        Err(error) => return Err(no_link(error, &joining.hub, data).await),
    };
    let ask = Ask {
        token: joining.token,
        csr: signing_request(&joining.name, &key).map_err(IdentityError::Key)?,
        name: joining.name,
        ca_hash: joining.ca_hash,
        labels: joining.labels,
        version: env!("CARGO_PKG_VERSION").to_owned(),
    };
    let tell = |why: &str| info!(cluster = %ask.name, why, "waiting for the hub");
    let given = join(&link, &ask, tell).await.map_err(IdentityError::Join)?;
    keep(&dir, &given, &joining.hub).map_err(|source| IdentityError::Files { dir, source })?;
    info!(cluster = %given.cluster, "joined");
    load(data)?.ok_or_else(|| IdentityError::Damaged(home(data)))
}

/// Where a device that has not joined yet has looked for its hub.
pub(crate) fn asked(data: &Path) -> Option<String> {
    fs::read_to_string(home(data).join("hub")).ok()
}

/// TLS for a handshake that shows whether anybody is there, and trusts nobody.
pub(crate) fn stranger() -> Result<ClientTls, TlsError> {
    ClientTls::new(tls::join_client(Digest::of(b""), Arc::new(FloorClock { floor: BUILT }))?)
}

/// Silence has a next step of its own.
async fn no_link(error: DialError, hub: &str, data: &Path) -> IdentityError {
    if !matches!(error, DialError::Connect { closed: Closed::TimedOut, .. }) {
        return IdentityError::Dial(error);
    }
    // Of a name, also what it stands for here: that may be what is wrong.
    let found = tokio::net::lookup_host(hub).await.ok().and_then(|mut all| all.next());
    let hub = match found.map(|address| address.to_string()) {
        Some(address) if address != hub => format!("{hub} ({address})"),
        _ => hub.to_owned(),
    };
    IdentityError::Silent { hub, data: data.display().to_string() }
}

/// The device's key, made when there is none.
fn own_key(dir: &Path) -> Result<rcgen::KeyPair, IdentityError> {
    let failed = |source| IdentityError::Files { dir: dir.to_owned(), source };
    fs::create_dir_all(dir).map_err(failed)?;
    let path = dir.join("key.der");
    match fs::read(&path) {
        Ok(bytes) => {
            let der = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(bytes));
            rcgen::KeyPair::try_from(&der).map_err(|_| IdentityError::Damaged(dir.to_owned()))
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let key = rcgen::KeyPair::generate().map_err(IdentityError::Key)?;
            write_whole(&path, &key.serialize_der()).map_err(failed)?;
            Ok(key)
        }
        Err(error) => Err(failed(error)),
    }
}

/// Subject as the hub's approvers expect it of a cluster's agent.
fn signing_request(name: &ClusterName, key: &rcgen::KeyPair) -> Result<Vec<u8>, rcgen::Error> {
    let group = format!("system:open-cluster-management:{name}");
    let mut params = rcgen::CertificateParams::new(Vec::new())?;
    params.distinguished_name = rcgen::DistinguishedName::new();
    params.distinguished_name.push(rcgen::DnType::CommonName, format!("{group}:agent"));
    params.distinguished_name.push(rcgen::DnType::OrganizationName, group);
    Ok(params.serialize_request(key)?.der().to_vec())
}

fn keep(dir: &Path, given: &Given, hub: &str) -> io::Result<()> {
    write_whole(&dir.join("ca.der"), &given.ca)?;
    write_whole(&dir.join("fleet-root"), &given.fleet_root)?;
    write_whole(&dir.join("cluster"), given.cluster.as_str().as_bytes())?;
    write_whole(&dir.join("hub"), hub.as_bytes())?;
    write_whole(&dir.join("cert.der"), &given.certificate)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn given() -> Given {
        Given {
            cluster: ClusterName::try_from("pi-7").unwrap(),
            certificate: vec![1],
            ca: vec![2],
            fleet_root: [3; 32],
        }
    }

    #[test]
    fn an_identity_is_whole_or_not_there() {
        let data = tempfile::tempdir().unwrap();
        assert!(load(data.path()).unwrap().is_none());
        let dir = home(data.path());
        own_key(&dir).unwrap();
        assert!(load(data.path()).unwrap().is_none(), "a key alone is none");
        keep(&dir, &given(), "hub:6444").unwrap();
        let mut held = load(data.path()).unwrap().unwrap();
        assert_eq!((held.cluster.as_str(), held.hub.as_str()), ("pi-7", "hub:6444"));
        held.move_hub(data.path(), "other:1").unwrap();
        assert_eq!(load(data.path()).unwrap().unwrap().hub, "other:1");
        fs::remove_file(dir.join("fleet-root")).unwrap();
        assert!(matches!(load(data.path()), Err(IdentityError::Damaged(_))));
    }

    #[tokio::test]
    async fn who_hears_nothing_from_the_hub_is_told_what_to_look_at() {
        let hub = "127.0.0.1:6444".to_owned();
        let silence = DialError::Connect { host: hub.clone(), closed: Closed::TimedOut };
        let said = no_link(silence, &hub, Path::new("/data")).await.to_string();
        for part in ["over UDP from 127.0.0.1:6444:", "firewall", "spoke doctor --data /data"] {
            assert!(said.contains(part), "{said}");
        }
        let named = DialError::Connect { host: "localhost:1".into(), closed: Closed::TimedOut };
        let said = no_link(named, "localhost:1", Path::new("/data")).await.to_string();
        assert!(
            said.contains("localhost:1 (127.0.0.1:1)") || said.contains("localhost:1 ([::1]:1)")
        );
        let refused = DialError::Connect { host: hub.clone(), closed: Closed::Here };
        assert!(matches!(no_link(refused, &hub, Path::new("/")).await, IdentityError::Dial(_)));
    }

    #[test]
    fn the_key_is_made_once_and_is_its_owners() {
        use std::os::unix::fs::PermissionsExt as _;
        let data = tempfile::tempdir().unwrap();
        let first = own_key(data.path()).unwrap().serialize_der();
        assert_eq!(own_key(data.path()).unwrap().serialize_der(), first);
        let mode = fs::metadata(data.path().join("key.der")).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
    }

    #[test]
    fn the_signing_request_names_the_clusters_agent() {
        let key = rcgen::KeyPair::generate().unwrap();
        let der = signing_request(&ClusterName::try_from("pi-7").unwrap(), &key).unwrap();
        let text = String::from_utf8_lossy(&der);
        assert!(text.contains("system:open-cluster-management:pi-7:agent"));
    }
}
