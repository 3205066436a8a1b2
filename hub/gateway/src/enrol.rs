//! From a stranger with a token to a spoke with a certificate: the double opt-in.
//!
//! ```text
//! token ok ─▶ ManagedCluster + CertificateSigningRequest ─▶ approved and hubAcceptsClient ─▶ signed
//! ```
//!
//! A device's request is signed here alone: its approval is half of what it takes. It is asked by whom its token makes
//! it, as in Open Cluster Management, whose tools look for that; the controller that signs people's requests knows it by
//! an extra which names the cluster, and which the API lets nobody say. By that, by its signer and by its key a request is
//! known here, too: its name alone says nothing of who has made it.
//!
//! Guarantees:
//! - without a valid token nothing is written (`a_wrong_token_writes_nothing_and_says_what_to_do`);
//! - a device that comes again with the same key gets the same answer, not a second request
//!   (`two_yeses_make_a_spoke_and_a_second_device_cannot_have_its_name`);
//! - a device that does not read what it is told is not kept (`who_does_not_take_the_answer_is_not_kept`);
//! - a name that is taken does not use a token up (`a_name_that_is_taken_does_not_use_a_token_up`), and a device takes no
//!   name with which its cluster would have somebody else's namespace
//!   (`a_device_does_not_take_a_name_whose_namespace_is_somebody_elses`);
//! - a device gives itself no label that others decide by
//!   (`a_device_gives_itself_no_label_that_others_decide_by`);
//! - who asks for a device is known by its token (`a_device_is_asked_for_by_whom_its_token_makes_it`);
//! - no yes to what somebody else asks for is one to a device (`what_somebody_else_asks_for_is_no_device_s`).

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use freewheel_hub_api::conditions::{Condition, REQUEST_APPROVED, REQUEST_DENIED};
use freewheel_hub_api::kinds::certificate_signing_request::JOINING_CLUSTER;
use freewheel_hub_api::kinds::managed_cluster::{CLUSTER_NAME_LABEL, is_reserved};
use freewheel_hub_objects::Objects;
use freewheel_hub_pki::{AuthorityError, VerifiedRequest, encode};
use freewheel_hub_schema::object::Resource;
use freewheel_hub_schema::time;
use freewheel_hub_store::Scope;
use freewheel_link::digest::Digest;
use freewheel_link::frame::{self, FrameReader};
use freewheel_link::join::{
    AcceptedV1, Ask, JoinAnswer, JoinRefusal, JoinRequestV1, PENDING_EVERY,
};
use freewheel_link::labels;
use freewheel_link::limits::ASK_BYTES_MAX;
use freewheel_link::message::Reason;
use freewheel_link::names::ClusterName;
use freewheel_link::transport::{SendHalf, Transport, code};
use serde_json::{Value, json};
use tokio::io::AsyncWriteExt as _;
use tokio::time::timeout;
use tracing::{info, warn};

use crate::inner::Inner;
use crate::issue::{SIGNER, forget_spent, is_for, is_own, issued, sign};
use crate::joining::{No, REQUESTS_KIND, Refusal, check_clock, gone, how_for};
use crate::joins::{self, AskingPermit};
use crate::object_refs::{CLUSTERS, object_ref};
use crate::tokens::{self, GoodToken};
use crate::{device_orders, receipts, register, renew};

/// The request is the first thing a device says.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(10);
/// A device is asked to come back after this long, so that forgotten ones hold nothing.
const ACCEPTANCE_WAIT_MAX: Duration = Duration::from_secs(600);

/// What who has a token is a member of, in Kubernetes and in Open Cluster Management.
const BOOTSTRAP_GROUPS: [&str; 3] =
    ["system:bootstrappers", "system:bootstrappers:managedcluster", "system:authenticated"];

/// Takes a device's request and stays with it until it is decided.
pub(crate) async fn serve(hub: &Inner, link: Arc<dyn Transport>, stranger: AskingPermit<'_>) {
    let mut stranger = Some(stranger);
    let address = link.peer().address;
    let Ok(Ok(stream)) = timeout(REQUEST_TIMEOUT, link.accept()).await else {
        link.close(code::VIOLATION, "nothing was asked");
        return;
    };
    let (mut send, mut recv) = (stream.send, FrameReader::new(stream.recv));
    let request = match timeout(REQUEST_TIMEOUT, recv.next_within::<Ask>(ASK_BYTES_MAX)).await {
        Ok(Ok(Some(request))) if request.is_bounded() => request,
        Ok(Err(error)) => {
            warn!(peer = %address, %error, "a join request cannot be read");
            link.close(code::VIOLATION, "the join request cannot be read");
            return;
        }
        _ => {
            warn!(peer = %address, "no join request came, or one without bounds");
            link.close(code::VIOLATION, "no usable join request came");
            return;
        }
    };
    let answered = answer(hub, address, &request, (&mut send, &mut stranger));
    let answer = tokio::select! {
        biased;
        answer = answered => answer,
        _ = link.closed() => return,
    };
    // Who does not take it has no place any more, and is not kept.
    let answered =
        async { frame::write(&mut send, &answer).await.is_ok() && send.shutdown().await.is_ok() };
    if timeout(REQUEST_TIMEOUT, answered).await.is_ok_and(|answered| answered) {
        // The device closes once it has read the answer.
        let _ = timeout(REQUEST_TIMEOUT, link.closed()).await;
    }
    link.close(code::STOPPING, "joining is done");
}

/// What it is answered, as soon as that is decided.
async fn answer(
    hub: &Inner,
    address: SocketAddr,
    request: &Ask,
    (send, stranger): (&mut Box<dyn SendHalf>, &mut Option<AskingPermit<'_>>),
) -> JoinAnswer {
    let (name, answer) = match request {
        Ask::Join(request) => {
            let decided = decide(hub, request, send, stranger).await;
            (&*request.name, decided.map(JoinAnswer::Accepted))
        }
        Ask::Renew(request) => ("", renew::without_session(hub, request).map(JoinAnswer::Accepted)),
        Ask::Wiped(wiped) => {
            let kept = receipts::take(&hub.objects, wiped).await;
            ("", kept.map(|()| JoinAnswer::Taken).map_err(No::from))
        }
    };
    match answer {
        Ok(answer) => {
            if let JoinAnswer::Accepted(accepted) = &answer {
                info!(cluster = %accepted.cluster, peer = %address, "a device has its certificate");
            }
            answer
        }
        Err(no) => refuse(hub, (name, address), request, no).await,
    }
}

/// What is said to who is not given what it asked for.
async fn refuse(
    hub: &Inner,
    (name, address): (&str, SocketAddr),
    request: &Ask,
    no: No,
) -> JoinAnswer {
    match no {
        No::Refused(Refusal(cause, message)) => {
            // It comes again and again.
            if hub.turned_away.take(&format!("{} {name}", address.ip())) {
                warn!(cluster = name, peer = %address, error = %message, "a device is refused");
            }
            JoinAnswer::refused(cause, message)
        }
        No::TurnedAway(reason) => {
            let key = VerifiedRequest::read(request.csr()).map(|asked| asked.fingerprint());
            let whose = key.as_ref().map_or_else(|_| address.ip().to_string(), Digest::to_string);
            if hub.turned_away.take(&whose) {
                warn!(cluster = name, peer = %address, error = %reason, "a device is turned away");
            }
            if let (Reason::Decommissioned(_), Ok(key)) = (&reason, key) {
                device_orders::note_told(&hub.objects, &key).await;
            }
            JoinAnswer::TurnedAway(reason)
        }
    }
}

async fn decide(
    hub: &Inner,
    request: &JoinRequestV1,
    send: &mut Box<dyn SendHalf>,
    stranger: &mut Option<AskingPermit<'_>>,
) -> Result<AcceptedV1, No> {
    let objects = &hub.objects;
    let token = tokens::check(objects, &request.token)?;
    let busy = || Refusal(JoinRefusal::Busy, joins::NO_PERMIT_MESSAGE.to_owned());
    let mark = VerifiedRequest::read(&request.csr)
        .map(|asked| asked.fingerprint())
        .map_err(AuthorityError::from)
        .map_err(Refusal::from)?;
    // It proves by its request that it has the key; no token is a way around that.
    if let Some(reason) = device_orders::bars(objects, &mark) {
        return Err(No::TurnedAway(reason));
    }
    check_clock(objects)?;
    if !hub.joins.is_in_pace(&token.id, &mark) {
        return Err(busy().into());
    }
    let mut place = hub.joins.wait(&token.id, mark).ok_or_else(busy)?;
    *stranger = None;
    tokio::select! {
        biased;
        why = place.has_to_leave() => Err(Refusal(JoinRefusal::Busy, why.to_owned()).into()),
        answer = admit(hub, request, &token, &mark, send) => answer.map_err(No::from),
    }
}

/// From a good token to a certificate.
async fn admit(
    hub: &Inner,
    request: &JoinRequestV1,
    token: &GoodToken,
    mark: &Digest,
    send: &mut Box<dyn SendHalf>,
) -> Result<AcceptedV1, Refusal> {
    let objects = &hub.objects;
    let name = ClusterName::try_from(request.name.as_str())
        .map_err(|error| Refusal(JoinRefusal::Name, error.to_string()))?;
    if is_reserved(name.as_str()) {
        let text = format!("{:?} is a name of the hub's own; choose another --name", name.as_str());
        return Err(Refusal(JoinRefusal::Name, text));
    }
    check_labels(request)?;
    register::check_name(objects, &name, mark)?;
    let spent = token.claim(objects, mark, &name).await?;
    let (uid, accepts) = match spent {
        // What became of that one is not undone by the token that it came of.
        Some(uid) => register::claim(hub, &name, mark, token, Some(&uid)).await?,
        None => register::register(hub, &name, mark, request, token).await?,
    };
    token.spend(objects, &uid).await?;
    let csr_name = format!("{name}-{}", &mark.hex()[..10]);
    forget_spent(objects, (&csr_name, (&name, mark)), request, &uid).await?;
    let asked = (csr_name.as_str(), &*token.id, accepts);
    request_certificate(objects, (&name, &uid), asked, (&request.csr, mark)).await?;
    wait(hub, (&name, &uid), (&csr_name, mark), request, send).await
}

fn check_labels(request: &JoinRequestV1) -> Result<(), Refusal> {
    match request.labels.iter().find(|(key, _)| labels::is_reserved(key)) {
        Some((key, _)) => Err(Refusal(
            JoinRefusal::Labels,
            format!(
                "a device may not give itself the label {key:?}: it is the hub's; leave it out of --labels, and \
                 label the ManagedCluster on the hub"
            ),
        )),
        None => Ok(()),
    }
}

async fn request_certificate(
    objects: &Objects,
    (name, uid): (&ClusterName, &str),
    (csr_name, token_id, auto): (&str, &str, bool),
    (csr, mark): (&[u8], &Digest),
) -> Result<(), Refusal> {
    let how = how_for(objects, (name, uid));
    let place = object_ref(REQUESTS_KIND, &ClusterName::root(), "", csr_name)?;
    if objects.get(&place).is_err() {
        let value = json!({
            "apiVersion": "certificates.k8s.io/v1", "kind": "CertificateSigningRequest",
            "metadata": {
                "name": csr_name,
                "labels": {CLUSTER_NAME_LABEL: name.as_str()},
            },
            "spec": {
                "request": STANDARD.encode(encode("CERTIFICATE REQUEST", csr)),
                "signerName": SIGNER,
                "username": format!("system:bootstrap:{token_id}"),
                "groups": BOOTSTRAP_GROUPS,
                "extra": {JOINING_CLUSTER: [name.as_str()]},
                "usages": ["digital signature", "client auth"],
            },
        });
        if let Err(error) = objects.create(&how, &place, value).await
            && error.reason != "AlreadyExists"
        {
            return Err(error.into());
        }
    }
    if !auto {
        return Ok(());
    }
    let now = time::from_unix(objects.clock().unix_seconds());
    let approve = |mut value: Value| {
        let is_decided = REQUEST_APPROVED.holds(&value) || REQUEST_DENIED.holds(&value);
        if !is_decided && is_own(&value, (name, mark)) {
            let text = "The join token accepts its clusters";
            let approved = Condition::new(&REQUEST_APPROVED, true, "AutoApproved", text);
            approved.put(&mut value["status"]["conditions"], &now);
        }
        Ok(value)
    };
    objects.modify(&how, &place, Some("approval"), approve).await?;
    Ok(())
}

/// Waits until both have said yes, and tells the device every now and then what is missing.
async fn wait(
    hub: &Inner,
    (name, uid): (&ClusterName, &str),
    csr: (&str, &Digest),
    request: &JoinRequestV1,
    send: &mut Box<dyn SendHalf>,
) -> Result<AcceptedV1, Refusal> {
    let objects = &hub.objects;
    let scopes = [CLUSTERS, REQUESTS_KIND].map(|(group, _, plural)| Scope {
        resource: Resource::new(group, plural),
        cluster: Some(ClusterName::root()),
        namespace: None,
    });
    let began = tokio::time::Instant::now();
    let mut pending_at = None;
    let busy = |text: &str| Refusal(JoinRefusal::Busy, text.to_owned());
    let revision = objects.store().snapshot().revision();
    let mut watch = objects
        .store()
        .watch(scopes.to_vec(), revision)
        .map_err(|_| busy("the hub is busy; come back"))?;
    loop {
        if let Some(accepted) = look(hub, (name, uid), csr, request).await? {
            return Ok(accepted);
        }
        if ACCEPTANCE_WAIT_MAX <= began.elapsed() {
            return Err(busy(
                "the hub's owner has not accepted yet; the request is kept, come back",
            ));
        }
        if pending_at.is_none_or(|at: tokio::time::Instant| PENDING_EVERY <= at.elapsed()) {
            let text = format!("waiting to be accepted: on the hub, run `hub accept {name}`");
            pending_at = Some(tokio::time::Instant::now());
            let pending = JoinAnswer::Pending(text);
            let Ok(Ok(())) = timeout(REQUEST_TIMEOUT, frame::write(send, &pending)).await else {
                return Err(busy("the device went away"));
            };
        }
        match timeout(PENDING_EVERY, watch.next()).await {
            Ok(Ok(_)) | Err(_) => {}
            Ok(Err(_)) => return Err(busy("the hub is busy; come back")),
        }
    }
}

/// One look: `None` while somebody has still to say yes.
async fn look(
    hub: &Inner,
    (name, uid): (&ClusterName, &str),
    (csr_name, mark): (&str, &Digest),
    request: &JoinRequestV1,
) -> Result<Option<AcceptedV1>, Refusal> {
    let Inner { objects, authority, fleet_root, .. } = hub;
    let cluster = object_ref(CLUSTERS, &ClusterName::root(), "", name.as_str())?;
    let cluster = objects.get(&cluster).map_err(|_| gone())?.object.value()?;
    if cluster["metadata"]["uid"] != uid || cluster["metadata"]["deletionTimestamp"].is_string() {
        return Err(gone());
    }
    let csr_place = object_ref(REQUESTS_KIND, &ClusterName::root(), "", csr_name)?;
    // Requests are deleted when they get old; who still waits makes a new one.
    let expired = |_| {
        let text = "the signing request has expired; come back for a new one".to_owned();
        Refusal(JoinRefusal::Busy, text)
    };
    let csr = objects.get(&csr_place).map_err(expired)?.object.value()?;
    let not_ours = || {
        let text = format!(
            "the signing request {csr_name:?} on the hub is not this device's own: delete it there, and come back"
        );
        Refusal(JoinRefusal::Busy, text)
    };
    if !is_for(&csr, name) {
        return Err(not_ours());
    }
    if REQUEST_DENIED.holds(&csr) {
        let text = "the hub's owner has denied this device".to_owned();
        return Err(Refusal(JoinRefusal::Denied, text));
    }
    let accepted = cluster.pointer("/spec/hubAcceptsClient") == Some(&Value::Bool(true));
    if !accepted || !REQUEST_APPROVED.holds(&csr) {
        return Ok(None);
    }
    if !is_own(&csr, (name, mark)) {
        return Err(not_ours());
    }
    let certificate = match issued(objects, &csr, request, uid) {
        Some(certificate) => certificate,
        None => sign(objects, authority, (name, uid), &csr_place, request).await?,
    };
    Ok(Some(AcceptedV1 {
        cluster: name.clone(),
        certificate: certificate.to_vec(),
        ca: authority.ca().to_vec(),
        fleet_root: *fleet_root,
    }))
}
