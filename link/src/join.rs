//! How a device becomes a spoke: a token and its own key in, a certificate out.
//!
//! ```text
//! device ──Ask::Join────▶ hub      (ALPN freewheel-join/1, one stream, the hub's CA is pinned)
//! device ◀─Pending──────  hub      as often as it likes, until its owner has accepted
//! device ◀─Accepted|Refused─ hub
//!
//! device ──Ask::Renew───▶ hub      the way back for a known key whose certificate has expired
//! device ◀─Accepted|Refused|TurnedAway─ hub      of another name, where the device takes another's place
//!
//! device ──Ask::Wiped───▶ hub      the last word of a device that is decommissioned
//! device ◀─Taken|Refused─ hub
//! ```
//!
//! The private key never leaves the device. Structs are frozen, variants are appended.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio::time::timeout;

use crate::artifact::PublicKey;
use crate::digest::Digest;
use crate::frame::{self, FrameError, FrameReader};
use crate::message::{Reason, bounded};
use crate::names::ClusterName;
use crate::transport::{Closed, Priority, Transport};

/// The hub says something at least this often while it waits for its owner.
pub const PENDING_EVERY: Duration = Duration::from_secs(10);
/// A hub that says nothing for this long is not there.
const HUB_SILENCE_TIMEOUT: Duration = Duration::from_secs(40);

/// A join token, `id.secret` as kubeadm writes it.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Token {
    id: String,
    secret: String,
}

/// Why a string is no [`Token`]. Never shows the secret.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("a token looks like abcdef.0123456789abcdef: 6, a dot, 16 characters of a-z and 0-9")]
pub struct NotAToken;

impl Token {
    /// The public half: names the Secret `bootstrap-token-<id>`.
    #[must_use]
    pub fn id(&self) -> &str {
        &self.id
    }

    /// Whether the secret half is this one; takes the same time for every answer.
    #[must_use]
    pub fn has_secret(&self, expected: &[u8]) -> bool {
        let own = self.secret.as_bytes();
        if own.len() != expected.len() {
            return false;
        }
        let differ =
            own.iter().zip(expected).fold(0_u8, |all, (a, b)| std::hint::black_box(all | (a ^ b)));
        differ == 0
    }
}

impl TryFrom<String> for Token {
    type Error = NotAToken;

    fn try_from(raw: String) -> Result<Self, NotAToken> {
        let clean = |part: &str, length| {
            part.len() == length
                && part.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit())
        };
        match raw.split_once('.') {
            Some((id, secret)) if clean(id, 6) && clean(secret, 16) => {
                Ok(Self { id: id.into(), secret: secret.into() })
            }
            _ => Err(NotAToken),
        }
    }
}

impl std::str::FromStr for Token {
    type Err = NotAToken;

    fn from_str(raw: &str) -> Result<Self, NotAToken> {
        Self::try_from(raw.to_owned())
    }
}

impl From<Token> for String {
    fn from(token: Token) -> Self {
        format!("{}.{}", token.id, token.secret)
    }
}

impl std::fmt::Debug for Token {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Token({}.…)", self.id)
    }
}

/// What a device comes with. A variant's position is its number on the wire.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Ask {
    /// A token.
    Join(JoinRequestV1),
    /// A certificate that was good once.
    Renew(RenewRequestV1),
    /// A device that is decommissioned holds nothing any more but the key that it says this with.
    Wiped(WipedV1),
}

/// What a receipt may say of what stays.
pub const LEFT_BYTES_MAX: usize = 1024;

/// The receipt of a device that has wiped what it held. Frozen bytes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct WipedV1 {
    /// Certificate signing request, DER, with its key; its one common name is [`WipedV1::statement`]: what was signed for
    /// anything else is no receipt.
    pub csr: Vec<u8>,
    /// What stays in its data directory as others have put it there, in words; empty when nothing does.
    pub left: String,
}

impl WipedV1 {
    /// What a device signs when it has done what this order says, but for this.
    #[must_use]
    pub fn statement(order: &str, left: &str) -> String {
        match left {
            "" => format!("freewheel:wiped:{order}"),
            left => format!("freewheel:wiped:{order}:{}", Digest::of(left.as_bytes())),
        }
    }
}

/// Asks for a new certificate for a key that has one already. Frozen bytes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RenewRequestV1 {
    /// The old certificate, DER.
    pub certificate: Vec<u8>,
    /// Certificate signing request, DER, with the same key.
    pub csr: Vec<u8>,
}

/// What a device asks. Frozen bytes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct JoinRequestV1 {
    /// The token as text; a malformed one is the hub's to refuse.
    pub token: String,
    /// Name that it wants to have.
    pub name: String,
    /// Certificate signing request, DER; only its key and its proof count.
    pub csr: Vec<u8>,
    /// Labels for the cluster and the node, sorted.
    pub labels: Vec<(String, String)>,
    /// Version of the agent.
    pub version: String,
}

/// What the hub answers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum JoinAnswer {
    /// Wait; with what its owner has to do.
    Pending(String),
    /// Welcome.
    Accepted(AcceptedV1),
    /// No; with what to do about it.
    Refused(RefusedV1),
    /// Whatever it asks for: what the hub has to say to the device with this key.
    TurnedAway(Reason),
    /// What it has said is kept.
    Taken,
}

/// What a new spoke keeps. Frozen bytes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AcceptedV1 {
    /// The name that it has now.
    pub cluster: ClusterName,
    /// Its certificate, DER.
    pub certificate: Vec<u8>,
    /// The fleet's CA, DER.
    pub ca: Vec<u8>,
    /// Root of trust for compiled modules.
    pub fleet_root: PublicKey,
}

/// Why a device is not taken.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RefusedV1 {
    /// What is wrong.
    pub cause: JoinRefusal,
    /// For people, with what to do.
    pub message: String,
}

/// Kinds of refusal. A variant's position is its number on the wire.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum JoinRefusal {
    /// The token is unknown, wrong or has expired; which of these is nobody's business.
    Token,
    /// No DNS label, or reserved.
    Name,
    /// Another device has this name.
    NameTaken,
    /// The signing request proves nothing.
    Request,
    /// Its owner said no.
    Denied,
    /// Too many at once: come back later.
    Busy,
    /// The hub has a problem of its own.
    Internal,
    /// There is no such cluster (any more): only a token helps.
    Unknown,
    /// A label that a device may not give itself.
    Labels,
}

impl JoinRefusal {
    /// Whether the same request may succeed later without anybody doing anything.
    #[must_use]
    pub const fn may_pass(self) -> bool {
        matches!(self, Self::Busy | Self::Internal)
    }
}

/// Why joining failed.
#[derive(Debug, thiserror::Error)]
pub enum JoinError {
    /// The hub said no.
    #[error("the hub refuses: {}", .0.message)]
    Refused(RefusedV1),
    /// The hub has something else to say to this device.
    #[error("{0}")]
    TurnedAway(Reason),
    /// The hub answers something else than was asked.
    #[error("the hub's answer is to another question")]
    Odd,
    /// The connection ended.
    #[error(transparent)]
    Closed(#[from] Closed),
    /// The hub's answer makes no sense.
    #[error("the hub's answer cannot be read")]
    Frame(#[from] FrameError),
    /// The hub went silent.
    #[error("the hub has gone silent")]
    Silent,
}

impl JoinRequestV1 {
    /// Whether every part is of a size that makes sense, before anything is done with it.
    #[must_use]
    pub fn is_bounded(&self) -> bool {
        self.token.len() <= 64
            && self.name.len() <= 63
            && self.csr.len() <= 4096
            && self.version.len() <= 64
            && self.labels.len() <= 64
            && self.labels.iter().all(|(key, value)| key.len() <= 317 && value.len() <= 63)
    }
}

impl RenewRequestV1 {
    /// Whether every part is of a size that makes sense, before anything is done with it.
    #[must_use]
    pub const fn is_bounded(&self) -> bool {
        self.csr.len() <= 4096 && self.certificate.len() <= 4096
    }
}

impl Ask {
    /// The signing request in it, which is of the device's key.
    #[must_use]
    pub fn csr(&self) -> &[u8] {
        match self {
            Self::Join(request) => &request.csr,
            Self::Renew(request) => &request.csr,
            Self::Wiped(request) => &request.csr,
        }
    }

    /// Whether every part is of a size that makes sense.
    #[must_use]
    pub fn is_bounded(&self) -> bool {
        match self {
            Self::Join(request) => request.is_bounded(),
            Self::Renew(request) => request.is_bounded(),
            Self::Wiped(request) => {
                request.csr.len() <= 4096 && request.left.len() <= LEFT_BYTES_MAX
            }
        }
    }
}

impl JoinAnswer {
    /// A refusal with a message of bounded length.
    #[must_use]
    pub fn refused(cause: JoinRefusal, message: impl Into<String>) -> Self {
        Self::Refused(RefusedV1 { cause, message: bounded(message.into(), 1024) })
    }
}

/// Asks over this connection and waits for as long as the hub says to wait; `pending` hears each time what
/// the hub waits for.
///
/// # Errors
/// When the hub refuses or goes away.
pub async fn submit(
    link: &dyn Transport,
    request: &JoinRequestV1,
    pending: impl FnMut(&str) + Send,
) -> Result<AcceptedV1, JoinError> {
    accepted(exchange(link, &Ask::Join(request.clone()), pending).await?)
}

/// Asks for a new certificate with an old one, which may have expired.
///
/// # Errors
/// When the hub refuses or goes away.
pub async fn renew(link: &dyn Transport, request: RenewRequestV1) -> Result<AcceptedV1, JoinError> {
    accepted(exchange(link, &Ask::Renew(request), |_| {}).await?)
}

/// Says that all is wiped but for what is not the agent's, and waits until the hub has kept that.
///
/// # Errors
/// When the hub refuses or goes away.
pub async fn wiped(link: &dyn Transport, request: WipedV1) -> Result<(), JoinError> {
    match exchange(link, &Ask::Wiped(request), |_| {}).await? {
        JoinAnswer::Taken => Ok(()),
        other => Err(no(other)),
    }
}

fn accepted(answer: JoinAnswer) -> Result<AcceptedV1, JoinError> {
    match answer {
        JoinAnswer::Accepted(accepted) => Ok(accepted),
        other => Err(no(other)),
    }
}

fn no(answer: JoinAnswer) -> JoinError {
    match answer {
        JoinAnswer::Refused(refused) => JoinError::Refused(refused),
        JoinAnswer::TurnedAway(reason) => JoinError::TurnedAway(reason),
        JoinAnswer::Pending(_) | JoinAnswer::Accepted(_) | JoinAnswer::Taken => JoinError::Odd,
    }
}

/// The answer that is not to wait.
async fn exchange(
    link: &dyn Transport,
    request: &Ask,
    mut pending: impl FnMut(&str) + Send,
) -> Result<JoinAnswer, JoinError> {
    let stream = link.open(Priority::Session).await?;
    let mut send = stream.send;
    let mut answers = FrameReader::new(stream.recv);
    let asked = frame::write(&mut send, request).await;
    if let Err(error) = asked {
        return Err(ended(link, error).await);
    }
    loop {
        match timeout(HUB_SILENCE_TIMEOUT, answers.next::<JoinAnswer>()).await {
            Err(_) => return Err(JoinError::Silent),
            // What a newer hub says beside the answer.
            Ok(Err(error)) if error.is_unknown() => {}
            Ok(Err(error)) => return Err(ended(link, error).await),
            Ok(Ok(None)) => return Err(JoinError::Closed(link.closed().await)),
            Ok(Ok(Some(JoinAnswer::Pending(text)))) => pending(&bounded(text, 1024)),
            Ok(Ok(Some(answer))) => return Ok(answer),
        }
    }
}

/// A broken stream says less than the reason that its connection was closed with.
async fn ended(link: &dyn Transport, error: FrameError) -> JoinError {
    match (&error, timeout(Duration::from_secs(1), link.closed()).await) {
        (FrameError::Io(_), Ok(closed)) => JoinError::Closed(closed),
        _ => JoinError::Frame(error),
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::AsyncWriteExt as _;

    use super::*;

    #[track_caller]
    fn check(raw: &str, valid: bool) {
        assert_eq!(raw.parse::<Token>().is_ok(), valid, "{raw:?}");
    }

    #[test]
    fn tokens() {
        check("abcdef.0123456789abcdef", true);
        check("abcdef.0123456789abcde", false);
        check("abcdef0123456789abcdef", false);
        check("ABCDEF.0123456789abcdef", false);
        check("", false);
        let token: Token = "abcdef.0123456789abcdef".parse().unwrap();
        assert!(token.has_secret(b"0123456789abcdef"));
        assert!(!token.has_secret(b"0123456789abcdeX"));
        assert!(!token.has_secret(b""));
        assert!(!format!("{token:?}").contains("0123456789abcdef"), "secrets are never printed");
    }

    #[tokio::test]
    async fn a_device_waits_until_it_is_accepted() {
        let (hub, spoke) = crate::memory_transport::pair();
        let request = JoinRequestV1 {
            token: "abcdef.0123456789abcdef".into(),
            name: "pi-7".into(),
            csr: vec![1],
            labels: Vec::new(),
            version: "0.1.0".into(),
        };
        let accepted = AcceptedV1 {
            cluster: ClusterName::try_from("pi-7").unwrap(),
            certificate: vec![1],
            ca: vec![2],
            fleet_root: [3; 32],
        };
        let answers = async {
            let stream = hub.accept().await.unwrap();
            let (mut send, mut requests) = (stream.send, FrameReader::new(stream.recv));
            let asked: Option<Ask> = requests.next().await.unwrap();
            assert_eq!(asked, Some(Ask::Join(request.clone())));
            frame::write(&mut send, &JoinAnswer::Pending("run hub accept pi-7".into()))
                .await
                .unwrap();
            // What a newer hub may say beside it is skipped.
            send.write_all(&[2, 99, 1]).await.unwrap();
            frame::write(&mut send, &JoinAnswer::Accepted(accepted.clone())).await.unwrap();
            send
        };
        let mut heard = Vec::new();
        let (got, _send) =
            tokio::join!(submit(&*spoke, &request, |text| heard.push(text.to_owned())), answers);
        assert_eq!(got.unwrap(), accepted);
        assert_eq!(heard, ["run hub accept pi-7"]);
    }
}
