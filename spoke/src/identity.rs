//! Who this spoke is: a key that never leaves the device, and what the hub gave for it.
//!
//! ```text
//! DIR/identity/key.der    made here, 0600     cert.der   from the hub, rewritten on rotation
//!              ca.der, fleet-root             pinned when it joined
//!              cluster, hub                   its name; where the hub was last
//!              ca-hash                        what it was told of the hub's CA when it asked to join
//!              answer                         what the hub said to that last, until it is let in
//!              joined                         what cannot be had again, a second time (copy)
//!              former                         names that it had before it took another device's place
//!              told                           the hub's newest time, for a device without a clock
//!              refusal                        when and why the hub turned this device away last
//! ```
//!
//! Guarantees:
//! - `cert.der` is written last, so that an identity is whole or not there (`an_identity_is_whole_or_not_there`);
//! - a failed join keeps the key, and the next try asks with it again (`the_key_is_made_once_and_is_its_owners`);
//! - where a part of an identity is damaged, the key that the hub knows stays in use if it can
//!   (`what_is_damaged_costs_the_key_only_where_it_is_the_key`);
//! - a device that takes another's place has its name and its own key, wherever the write of that breaks off
//!   (`a_board_that_takes_anothers_place_has_its_name_and_its_own_key`);
//! - the time that is remembered is what the hub told last, to the hour
//!   (`the_hubs_time_and_its_refusal_outlive_a_reboot`).

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use freewheel_link::artifact::PublicKey;
use freewheel_link::digest::Digest;
use freewheel_link::join::{JoinAnswer, JoinError, RenewRequestV1, Token, WipedV1};
use freewheel_link::message::Reason;
use freewheel_link::names::ClusterName;
use freewheel_link::quic::{ClientTls, Dialer, Endpoint};
use freewheel_link::tls::{self, Credentials, FloorClock, TlsError};
use freewheel_link::transport::{Closed, DialError};
use freewheel_spoke_agent::uplink::join::{Ask, Identity as Given, NoIdentity, join, renew};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use tracing::{info, warn};

use crate::data::write_whole;
use copy::Copy;

mod answer;
mod copy;

/// The hub dates its certificates back by this much: it was this much later when it gave one.
const BACKDATED_SECONDS: u64 = 24 * 3600;

/// Why there is no identity to run with.
#[derive(Debug, thiserror::Error)]
pub(crate) enum IdentityError {
    #[error(
        "{0} has no identity yet: give --hub, --token (or --token-file) and --ca-hash, as `hub token create` prints them"
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
        "the identity in {0} is damaged: remove cert.der there and join again with a new token; the key, which the \
         hub knows, stays"
    )]
    Damaged(PathBuf),
    #[error(
        "the key in {0} is lost or damaged: remove that directory and join again with a new token, under another \
         --name or when the ManagedCluster of this one is deleted"
    )]
    NoKey(PathBuf),
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
    #[error("the certificate has expired, and the hub gives no new one")]
    Renew(#[source] NoIdentity),
    #[error("cannot read the token from {from}")]
    Token {
        from: String,
        #[source]
        source: io::Error,
    },
    #[error("what is in {0} is no token: it looks like abcdef.0123456789abcdef")]
    NoToken(String),
    #[error(
        "this device belongs to another hub than --ca-hash says (its own is {held}): use another --data, or remove \
         {dir} to join anew"
    )]
    OtherFleet { held: Digest, dir: PathBuf },
}

impl IdentityError {
    /// [`IdentityError::may_pass`], for a device that nobody has let in yet: a hub with another CA than it was given
    /// is told at once, and is not a network that is in the way for now.
    pub(crate) const fn may_pass_by_itself(&self) -> bool {
        let wrong = matches!(
            self,
            Self::Dial(DialError::WrongHub { .. } | DialError::Credentials { .. })
                | Self::Join(NoIdentity::Odd(_))
        );
        !wrong && self.may_pass()
    }

    /// What the hub has to say to this device, whatever it asked for.
    pub(crate) const fn turned_away(&self) -> Option<&Reason> {
        match self {
            Self::Join(NoIdentity::Join(JoinError::TurnedAway(reason)))
            | Self::Renew(NoIdentity::Join(JoinError::TurnedAway(reason))) => Some(reason),
            _ => None,
        }
    }

    /// Whether the same may succeed later without anybody doing anything.
    pub(crate) const fn may_pass(&self) -> bool {
        match self {
            Self::Dial(_) | Self::Silent { .. } => true,
            Self::Join(NoIdentity::Join(JoinError::Refused(refused)))
            | Self::Renew(NoIdentity::Join(JoinError::Refused(refused))) => {
                refused.cause.may_pass()
            }
            Self::Join(NoIdentity::Join(JoinError::TurnedAway(_)))
            | Self::Renew(NoIdentity::Join(JoinError::TurnedAway(_))) => false,
            Self::Join(NoIdentity::Join(_)) | Self::Renew(NoIdentity::Join(_)) => true,
            _ => false,
        }
    }
}

/// An identity in force.
pub(crate) struct Identity {
    pub(crate) cluster: ClusterName,
    pub(crate) hub: String,
    pub(crate) fleet_root: PublicKey,
    pub(crate) certificate: Vec<u8>,
    ca: Vec<u8>,
    key: Vec<u8>,
}

/// What a device says its last word with: a key that its hub knows, before it was let in, too.
pub(crate) struct Witness {
    pub(crate) hub: String,
    pub(crate) ca_hash: Digest,
    key: Vec<u8>,
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
    let copy = Copy::read(&dir);
    let part = |name: &str| match copy.as_ref().and_then(|copy| copy.part(name)) {
        Some(bytes) => Ok(Some(bytes.to_vec())),
        None => read(name),
    };
    let text = |name: &str| -> Result<String, IdentityError> {
        let bytes = part(name)?.ok_or_else(damaged)?;
        String::from_utf8(bytes).map_err(|_| damaged())
    };
    let ca = part("ca.der")?.ok_or_else(damaged)?;
    // Half of one would be told as a hub with another CA.
    tls::key_hash(&CertificateDer::from(ca.as_slice())).map_err(|_| damaged())?;
    Ok(Some(Identity {
        cluster: ClusterName::try_from(text("cluster")?).map_err(|_| damaged())?,
        hub: text("hub")?,
        fleet_root: part("fleet-root")?
            .and_then(|bytes| bytes.try_into().ok())
            .ok_or_else(damaged)?,
        ca,
        key: part("key.der")?.ok_or_else(|| IdentityError::NoKey(dir.clone()))?,
        certificate,
    }))
}

/// What is needed of the identity for a receipt; `None` where this device has never asked a hub for anything.
pub(crate) fn witness(data: &Path) -> Result<Option<Witness>, IdentityError> {
    let dir = home(data);
    let copy = Copy::read(&dir);
    let part = |name: &str| match copy.as_ref().and_then(|copy| copy.part(name)) {
        Some(bytes) => Some(bytes.to_vec()),
        None => fs::read(dir.join(name)).ok(),
    };
    let remembered = || asked_ca_hash(data);
    let ca_hash = match part("ca.der") {
        Some(ca) => tls::key_hash(&CertificateDer::from(ca)).ok().or_else(remembered),
        None => remembered(),
    };
    let (Some(hub), Some(ca_hash)) = (asked(data), ca_hash) else { return Ok(None) };
    let key = part("key.der").ok_or(IdentityError::NoKey(dir))?;
    Ok(Some(Witness { hub, ca_hash, key }))
}

/// Whether this device was called so before it took another's place: what starts it may say so for ever.
pub(crate) fn was_called(data: &Path, name: &ClusterName) -> bool {
    former(&home(data)).lines().any(|line| line == name.as_str())
}

fn former(dir: &Path) -> String {
    fs::read_to_string(dir.join("former")).unwrap_or_default()
}

fn note_former(dir: &Path, name: &ClusterName) -> io::Result<()> {
    let mut all = former(dir);
    if !all.lines().any(|line| line == name.as_str()) {
        all.push_str(name.as_str());
        all.push('\n');
        write_whole(&dir.join("former"), all.as_bytes())?;
    }
    Ok(())
}

/// Names of the files of an identity that are not as they were written.
pub(crate) fn damaged(data: &Path) -> Vec<&'static str> {
    copy::damaged(&home(data))
}

/// Writes what is damaged of an identity anew, from its copy.
pub(crate) fn mend(data: &Path) -> io::Result<()> {
    copy::mend(&home(data))
}

/// The clock of this device: what the machine shows, and never less than what is known of the hub's time.
pub(crate) fn clock(data: &Path) -> Arc<FloorClock> {
    let given =
        load(data).ok().flatten().map_or(0, |identity| identity.life().0 + BACKDATED_SECONDS);
    Arc::new(FloorClock::new(given.max(hub_time(data))))
}

/// The hub's time as it was last written down.
pub(crate) fn hub_time(data: &Path) -> u64 {
    let text = fs::read_to_string(home(data).join("told")).ok();
    text.and_then(|text| text.trim().parse().ok()).unwrap_or_default()
}

/// First and last second of a certificate, Unix time; 0 of one that cannot be read.
pub(crate) fn life(certificate: &[u8]) -> (u64, u64) {
    let Ok((_, parsed)) = x509_parser::parse_x509_certificate(certificate) else {
        return (0, 0);
    };
    let second = |at: x509_parser::time::ASN1Time| u64::try_from(at.timestamp()).unwrap_or(0);
    (second(parsed.validity().not_before), second(parsed.validity().not_after))
}

/// Writes the hub's time down where it is another by `step` than what is there.
pub(crate) fn note_time(data: &Path, now: u64, step: u64) -> io::Result<()> {
    if now.abs_diff(hub_time(data)) < step {
        return Ok(());
    }
    write_whole(&home(data).join("told"), now.to_string().as_bytes())
}

/// Keeps why the hub turned this device away; the same again is not written again.
pub(crate) fn note_refusal(data: &Path, now: u64, reason: &Reason) -> io::Result<()> {
    if refusal(data).is_some_and(|(_, held)| held == *reason) {
        return Ok(());
    }
    let bytes = postcard::to_stdvec(&(now, reason)).map_err(io::Error::other)?;
    write_whole(&home(data).join("refusal"), &bytes)
}

/// When and why the hub turned this device away, unless it has let it in since.
pub(crate) fn refusal(data: &Path) -> Option<(u64, Reason)> {
    postcard::from_bytes(&fs::read(home(data).join("refusal")).ok()?).ok()
}

/// The hub has let this device in.
pub(crate) fn forget_refusal(data: &Path) -> io::Result<()> {
    forget(&home(data).join("refusal"))
}

/// What the hub told has proven wrong.
pub(crate) fn forget_time(data: &Path) -> io::Result<()> {
    forget(&home(data).join("told"))
}

fn forget(file: &Path) -> io::Result<()> {
    match fs::remove_file(file) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

impl Identity {
    /// TLS for sessions with this identity.
    pub(crate) fn tls(&self, clock: &Arc<FloorClock>) -> Result<ClientTls, TlsError> {
        let own = Credentials {
            chain: vec![CertificateDer::from(self.certificate.clone())],
            key: PrivateKeyDer::from(PrivatePkcs8KeyDer::from(self.key.clone())),
        };
        let ca = CertificateDer::from(self.ca.clone());
        ClientTls::new(tls::session_client(&ca, own, clock.clone())?)
    }

    /// First and last second of the certificate, Unix time; 0 of one that cannot be read.
    pub(crate) fn life(&self) -> (u64, u64) {
        life(&self.certificate)
    }

    /// Hash of the key of the CA that this device trusts.
    pub(crate) fn ca_hash(&self) -> Result<Digest, TlsError> {
        tls::key_hash(&CertificateDer::from(self.ca.as_slice()))
    }

    /// What to have signed for a new certificate.
    pub(crate) fn signing_request(&self) -> Result<Vec<u8>, IdentityError> {
        let der = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(self.key.clone()));
        let key = rcgen::KeyPair::try_from(&der).map_err(IdentityError::Key)?;
        signing_request(&self.cluster, &key).map_err(IdentityError::Key)
    }

    /// Takes a new certificate into use, once it is on disk. One that is not of this key is none.
    pub(crate) fn exchange(
        mut self,
        data: &Path,
        certificate: Vec<u8>,
    ) -> Result<Self, IdentityError> {
        let dir = home(data);
        let key = |der: &[u8]| tls::key_hash(&CertificateDer::from(der));
        if key(&certificate)? != key(&self.certificate)? {
            let text = "the hub's new certificate is of another key";
            return Err(IdentityError::Renew(NoIdentity::Odd(text.to_owned())));
        }
        write_whole(&dir.join("cert.der"), &certificate)
            .map_err(|source| IdentityError::Files { dir, source })?;
        self.certificate = certificate;
        Ok(self)
    }

    /// Asks for a new certificate with the one that has expired.
    pub(crate) async fn renew_at_the_door(
        self,
        data: &Path,
        endpoint: &Endpoint,
        clock: &Arc<FloorClock>,
    ) -> Result<Self, IdentityError> {
        info!(cluster = %self.cluster, "asking for a new certificate with the key of the old one");
        let ca_hash = self.ca_hash()?;
        let client = ClientTls::new(tls::join_client(ca_hash, clock.clone())?)?;
        let dialer = Dialer::new(endpoint.clone(), self.hub.clone(), client);
        let link = dialer.connect().await.map_err(IdentityError::Dial)?;
        let csr = self.signing_request()?;
        let request = RenewRequestV1 { certificate: self.certificate.clone(), csr };
        let given = renew(&link, ca_hash, request).await.map_err(IdentityError::Renew)?;
        let renewed = if given.cluster == self.cluster {
            self.exchange(data, given.certificate)?
        } else {
            self.rename(data, given)?
        };
        info!(until = renewed.life().1, "the certificate is renewed");
        Ok(renewed)
    }

    /// Is another cluster from here on, with the same key: the hub has given this device that one's place. The certificate is
    /// written last. Until it is, the next contact begins this anew, whatever of it is on the disk.
    fn rename(mut self, data: &Path, given: Given) -> Result<Self, IdentityError> {
        let dir = home(data);
        let failed = |source| IdentityError::Files { dir: dir.clone(), source };
        info!(from = %self.cluster, cluster = %given.cluster, "this device takes the place of another");
        note_former(&dir, &self.cluster).map_err(failed)?;
        write_whole(&dir.join("cluster"), given.cluster.as_str().as_bytes()).map_err(failed)?;
        copy::make(&dir).map_err(failed)?;
        self.cluster = given.cluster;
        self.exchange(data, given.certificate)
    }

    /// Remembers where the hub is now; where the disk takes no writes, for this life.
    pub(crate) fn move_hub(&mut self, data: &Path, hub: &str) {
        if self.hub == hub {
            return;
        }
        hub.clone_into(&mut self.hub);
        if let Err(error) = write_whole(&home(data).join("hub"), hub.as_bytes()) {
            warn!(%error, hub, "where the hub is now is not remembered");
        }
    }
}

impl Witness {
    /// What this device says when it has wiped all that it held, and what stays, signed with the key that it is known by.
    pub(crate) fn receipt(&self, order: &str, left: &str) -> Result<WipedV1, IdentityError> {
        let der = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(self.key.clone()));
        let key = rcgen::KeyPair::try_from(&der).map_err(IdentityError::Key)?;
        let mut params = rcgen::CertificateParams::new(Vec::new()).map_err(IdentityError::Key)?;
        params.distinguished_name = rcgen::DistinguishedName::new();
        let statement = WipedV1::statement(order, left);
        params.distinguished_name.push(rcgen::DnType::CommonName, statement);
        let csr = params.serialize_request(&key).map_err(IdentityError::Key)?;
        Ok(WipedV1 { csr: csr.der().to_vec(), left: left.to_owned() })
    }
}

/// Joins: keeps a key, asks, and waits for somebody to accept. Returns once the identity is on disk.
pub(crate) async fn enrol(
    data: &Path,
    endpoint: &Endpoint,
    clock: &Arc<FloorClock>,
    joining: &Joining,
) -> Result<Identity, IdentityError> {
    let dir = home(data);
    let key = own_key(&dir)?;
    let client = tls::join_client(joining.ca_hash, clock.clone())?;
    let dialer = Dialer::new(endpoint.clone(), joining.hub.clone(), ClientTls::new(client)?);
    info!(hub = joining.hub, cluster = %joining.name, "joining");
    note_asked(&dir, joining)
        .map_err(|source| IdentityError::Files { dir: dir.clone(), source })?;
    let link = match dialer.connect().await {
        Ok(link) => link,
        Err(error) => return Err(no_link(error, &joining.hub, data).await),
    };
    let ask = Ask {
        token: joining.token.clone(),
        csr: signing_request(&joining.name, &key).map_err(IdentityError::Key)?,
        name: joining.name.clone(),
        ca_hash: joining.ca_hash,
        labels: joining.labels.clone(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
    };
    let note = |answer: &JoinAnswer| {
        if let Err(error) = answer::note(&dir, answer) {
            warn!(%error, "what the hub answered is not remembered");
        }
    };
    let tell = |why: &str| {
        info!(cluster = %ask.name, why, "waiting for the hub");
        note(&JoinAnswer::Pending(why.to_owned()));
    };
    let given = join(&link, &ask, tell).await.map_err(|end| {
        answer::of(&end).iter().for_each(note);
        IdentityError::Join(end)
    })?;
    // Before: one that is ended in between would be said to wait, once its certificate is lost.
    if let Err(error) = answer::forget(&dir) {
        warn!(%error, "what the hub answered before is not forgotten");
    }
    keep(&dir, &given, &joining.hub).map_err(|source| IdentityError::Files { dir, source })?;
    info!(cluster = %given.cluster, "joined");
    load(data)?.ok_or_else(|| IdentityError::Damaged(home(data)))
}

/// Where it asks, and by which CA it knows the hub: the doctor of a device that comes no further looks there, and so does
/// one that is decommissioned instead. Of another hub's answer nothing is kept.
fn note_asked(dir: &Path, joining: &Joining) -> io::Result<()> {
    let ca_hash = joining.ca_hash.to_string();
    let parts = [("hub", joining.hub.as_str()), ("ca-hash", ca_hash.as_str())];
    for (name, text) in parts {
        if fs::read(dir.join(name)).ok().as_deref() != Some(text.as_bytes()) {
            answer::forget(dir)?;
        }
        write_whole(&dir.join(name), text.as_bytes())?;
    }
    Ok(())
}

/// The name of this device, where it has one.
pub(crate) fn name(data: &Path) -> Option<String> {
    load(data).ok().flatten().map(|identity| identity.cluster.to_string())
}

/// Where a device that has not joined yet has looked for its hub.
pub(crate) fn asked(data: &Path) -> Option<String> {
    fs::read_to_string(home(data).join("hub")).ok()
}

/// What it was told of the CA of that hub.
pub(crate) fn asked_ca_hash(data: &Path) -> Option<Digest> {
    fs::read_to_string(home(data).join("ca-hash")).ok()?.parse().ok()
}

/// What that hub answered last.
pub(crate) fn answered(data: &Path) -> Option<JoinAnswer> {
    answer::last(&home(data))
}

/// Whether a hub has let this device in, whatever has become of its certificate.
pub(crate) fn was_in(data: &Path) -> bool {
    home(data).join("ca.der").exists()
}

/// TLS for a handshake that shows who is there: the hub with this CA, or anybody else, who is not trusted.
pub(crate) fn stranger(
    ca_hash: Option<Digest>,
    clock: &Arc<FloorClock>,
) -> Result<ClientTls, TlsError> {
    let ca_hash = ca_hash.unwrap_or_else(|| Digest::of(b""));
    ClientTls::new(tls::join_client(ca_hash, clock.clone())?)
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
    let read_key = |bytes: Vec<u8>| {
        rcgen::KeyPair::try_from(&PrivateKeyDer::from(PrivatePkcs8KeyDer::from(bytes))).ok()
    };
    // The hub knows it: it is not to be lost with its file.
    let copy = Copy::read(dir).and_then(|copy| copy.part("key.der").map(<[u8]>::to_vec));
    if let Some(key) = copy.and_then(read_key) {
        return Ok(key);
    }
    match fs::read(&path) {
        Ok(bytes) => read_key(bytes).ok_or_else(|| IdentityError::NoKey(dir.to_owned())),
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
    copy::make(dir)?;
    write_whole(&dir.join("cert.der"), &given.certificate)
}

#[cfg(test)]
pub(crate) mod tests;
