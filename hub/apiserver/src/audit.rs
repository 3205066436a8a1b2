//! What the audit log is told of one request, from its coming to the end of its answer.
//!
//! ```text
//! caller known ─▶ RequestReceived ─▶ as whom it runs, who allows it, its object ─▶ answer ─▶ ResponseComplete
//!                                     what lasts: ─▶ ResponseStarted ─▶ the end of the answer ┘
//! ```
//!
//! Where nothing is told of a request, nothing is kept of it; without a policy nobody looks.
//!
//! Guarantees:
//! - events are kube-apiserver's, with the number that the answer has, and the logical cluster among their annotations
//!   (`events_are_those_of_kube_apiserver`);
//! - each refusal is told, also one at the door (`who_is_refused_is_told_of`);
//! - bodies are told where the policy asks for them, and nowhere else (`bodies_are_told_where_the_policy_asks_for_them`),
//!   however full their connection is
//!   (`what_is_read_is_told_however_full_its_connection_is`);
//! - what is kept to be told is on its connection's account until it is written
//!   (`bodies_that_are_told_of_are_on_their_connection_s_account_as_well`,
//!   `who_fills_a_connection_leaves_nothing_out_of_what_is_told`,
//!   `what_a_watch_is_asked_with_is_on_the_account_of_its_connection`);
//! - what policies and webhooks have to say to it is among the annotations, patches where it is told of bodies
//!   (`what_rules_say_of_a_write_is_told`);
//! - what lasts is told at its beginning and at its end, however it ends (`a_watch_is_told_when_it_begins_and_when_it_ends`).

use std::any::Any;
use std::net::IpAddr;
use std::sync::Arc;

use bytes::Bytes;
use freewheel_hub_audit::{
    Asked, Audit, Counts, Event, Level, ObjectRef, RequestAudit, Stage, UserInfo, What,
};
use freewheel_hub_metrics::{MetricFamily, MetricKind, Metrics, Sample, Value as Figure};
use freewheel_hub_objects::Notes;
use freewheel_hub_objects::clock::Clock;
use freewheel_hub_schema::protobuf;
use freewheel_hub_yaml as yaml;
use http::header::{ACCEPT_ENCODING, CONTENT_ENCODING, CONTENT_TYPE, USER_AGENT};
use http::{HeaderMap, Method, Request, Response, Uri};
use jiff::Timestamp;
use serde::Deserialize;
use serde_json::{Map, Value, json};

use crate::authn::User;
use crate::authz::{Decision, Reason, Resource};
use crate::body::Body;
use crate::flow;
use crate::media::{self, Wire};
use crate::memory_account::{Held, MemoryAccount};
use crate::path::verb;
use crate::path::{self, Route, Target};
use crate::query::Query;
use crate::series::Labels;

/// A body that is told of is there itself, as text, and in the line that is written.
const COPIES_PER_BODY: usize = 3;
/// Of an answer, which is on its way out by itself, there are the text and the line.
const COPIES_PER_ANSWER: usize = 2;
/// Addresses that a client says to have come by.
const FORWARDED_MAX: usize = 15;

/// Of what a client calls itself, as kube-apiserver has it.
const USER_AGENT_BYTES_MAX: usize = 1_024;

const DECISION: &str = "authorization.k8s.io/decision";
const REASON: &str = "authorization.k8s.io/reason";
/// The logical cluster that a request is for.
const CLUSTER: &str = "freewheel.dev/cluster";
/// Says why an answer's object is not there.
const LEFT_OUT: &str = "freewheel.dev/response-object";

/// What is told of requests, where, and by which clock.
#[derive(Clone)]
pub(crate) struct Auditing {
    pub(crate) audit: Arc<Audit>,
    pub(crate) clock: Arc<dyn Clock>,
}

/// Number and address of a request, what accounts for what it was asked with, and for what is made of it.
type Asking<'a> = (&'a str, Option<IpAddr>, Option<&'a Arc<Held>>, Option<&'a Arc<MemoryAccount>>);

/// One request that is told of.
pub(crate) struct Recording {
    by: Auditing,
    rule: RequestAudit,
    event: Event,
    /// It is about objects.
    has_objects: bool,
    progress: Progress,
    /// What accounts for what it was asked with.
    heading: Option<Arc<Held>>,
    account: Option<Arc<MemoryAccount>>,
    /// And for the text of its body.
    _text: Option<Held>,
    /// And for that of its answer.
    _answer: Option<Held>,
}

/// Tells by this clock of requests, where there is somebody to tell, and shows what becomes of events in the metrics.
pub(crate) fn begin(
    audit: Option<&Arc<Audit>>,
    clock: &Arc<dyn Clock>,
    metrics: &Metrics,
) -> Option<Auditing> {
    let audit = audit?.clone();
    let shown = |named, of: fn(&Counts) -> u64, labels: fn() -> Labels| {
        let counts = audit.log.counts().clone();
        metrics.show(MetricFamily::new(named, MetricKind::Counter, move || {
            vec![Sample { labels: labels(), value: Figure::Whole(of(&counts)) }]
        }));
    };
    let help = "Audit events that there were";
    shown(("apiserver_audit_event", help), Counts::events, Vec::new);
    let help = "Audit events that could not be written";
    let plugin = || vec![("plugin", "log".to_owned())];
    shown(("apiserver_audit_error", help), Counts::lost, plugin);
    Some(Auditing { audit, clock: clock.clone() })
}

impl Auditing {
    fn now(&self) -> Timestamp {
        Timestamp::from_nanosecond(self.clock.unix_nanos()).unwrap_or_default()
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Progress {
    /// Its caller is nobody whom the hub knows: it is told of once.
    Refused,
    /// It is over when it is answered.
    Brief,
    /// Its answer lasts.
    Lasting,
    /// The beginning of that was told.
    Begun,
    Over,
}

/// Verb, and what a request is about.
struct Info<'a> {
    verb: String,
    target: Option<Target<'a>>,
    path: &'a str,
    /// The one name that a selector leaves.
    selected: String,
}

impl<'a> Info<'a> {
    fn of(method: &Method, uri: &'a Uri) -> Self {
        let (_, path) = path::cluster(uri.path());
        let method_in_small = || method.as_str().to_ascii_lowercase();
        let Route::Resource(target) = path::route(path) else {
            return Self { verb: method_in_small(), target: None, path, selected: String::new() };
        };
        let query = Query::parse(uri.query().unwrap_or_default()).unwrap_or_default();
        let verb = verb::of(method, &target, &query);
        let selected = query.field_selector.strip_prefix("metadata.name=").unwrap_or_default();
        let selected = if selected.contains(',') { "" } else { selected.trim_start_matches('=') };
        Self {
            verb: verb.map_or_else(method_in_small, str::to_owned),
            target: Some(target),
            path,
            selected: selected.to_owned(),
        }
    }

    fn lasts(&self) -> bool {
        let subresource = self.target.as_ref().and_then(|target| target.subresource);
        self.target.is_some() && flow::lasts(&self.verb, subresource.unwrap_or_default())
    }

    fn resource(&self) -> Option<Resource<'_>> {
        let mut resource = self.target.as_ref().map(Resource::from)?;
        if resource.name.is_empty() {
            resource.name = &self.selected;
        }
        Some(resource)
    }

    fn what(&self) -> What<'_> {
        self.resource().map_or(What::Path(self.path), |resource| What::Resource {
            group: resource.group,
            plural: resource.plural,
            subresource: resource.subresource,
            namespace: resource.namespace,
            name: resource.name,
        })
    }

    fn object_ref(&self) -> Option<ObjectRef> {
        let resource = self.resource()?;
        Some(ObjectRef {
            resource: resource.plural.to_owned(),
            namespace: resource.namespace.to_owned(),
            name: resource.name.to_owned(),
            api_group: resource.group.to_owned(),
            api_version: self.target.as_ref().map(|target| target.version.to_owned())?,
            subresource: resource.subresource.to_owned(),
            ..ObjectRef::default()
        })
    }
}

impl Recording {
    /// What is told of a request with this number, from this address, of a caller whom the hub knows, or is a stranger's,
    /// or nobody's. What would hide its answer from the log is taken from it.
    pub(crate) async fn begin<B>(
        by: &Auditing,
        request: &mut Request<B>,
        (number, from, heading, account): Asking<'_>,
        user: Option<&User>,
    ) -> Option<Box<Self>> {
        let info = Info::of(request.method(), request.uri());
        let who = user.map(|user| (&*user.name, &*user.groups));
        let rule =
            by.audit.policy.evaluate(&Asked { user: who, verb: &info.verb, what: info.what() });
        if rule.level == Level::None {
            return None;
        }
        let mut event = Event::new(rule.level, number.to_owned(), by.now());
        let uri = request.uri();
        event.request_uri = uri.path_and_query().map_or("/", |all| all.as_str()).to_owned();
        event.user = user.map(user_info).unwrap_or_default();
        event.source_ips = source_ips(request.headers(), from);
        event.user_agent = user_agent(request.headers());
        event.object_ref = info.object_ref();
        let cluster = path::cluster(uri.path()).0.unwrap_or("root");
        event.annotations.insert(CLUSTER.to_owned(), cluster.to_owned());
        let progress = match user {
            None => Progress::Refused,
            Some(_) if info.lasts() => Progress::Lasting,
            Some(_) => Progress::Brief,
        };
        let has_objects = event.object_ref.is_some();
        event.verb = info.verb;
        if rule.level == Level::RequestResponse {
            request.headers_mut().remove(ACCEPT_ENCODING);
        }
        let (by, heading) = (by.clone(), heading.cloned());
        let mut recording = Box::new(Self {
            by,
            rule,
            event,
            has_objects,
            progress,
            heading,
            account: account.cloned(),
            _text: None,
            _answer: None,
        });
        if progress != Progress::Refused {
            recording.emit(Stage::RequestReceived).await;
        }
        Some(recording)
    }

    /// It runs as somebody else.
    pub(crate) fn runs_as(&mut self, user: &User) {
        self.event.impersonated_user = Some(user_info(user));
    }

    /// This was decided of it.
    pub(crate) fn is_decided(&mut self, decision: &Decision) {
        let (decided, reason) = match decision {
            Decision::Allow(reason) => ("allow", reason),
            Decision::Deny(reason) | Decision::NoOpinion(reason) => ("forbid", reason),
            // As kube-apiserver says it of what it cannot find out.
            Decision::Unanswered(_) | Decision::Failed(_) => {
                ("forbid", &Reason::Borrowed("internal error"))
            }
        };
        let annotations = &mut self.event.annotations;
        annotations.insert(DECISION.to_owned(), decided.to_owned());
        annotations.insert(REASON.to_owned(), reason.clone().into_owned());
    }

    /// This was said by those who have a say in it. What was said under a key before stays.
    pub(crate) fn is_noted(&mut self, notes: &Notes) {
        for (key, text) in notes.annotations(Level::Request <= self.rule.level) {
            self.event.annotations.entry(key).or_insert(text);
        }
    }

    /// How many times a body is there that comes with it: its text is told, in a line.
    pub(crate) fn copies(&self) -> usize {
        let is_told = self.has_objects && Level::Request <= self.rule.level;
        if is_told { COPIES_PER_BODY } else { 1 }
    }

    /// This has come with it, and there was room for so many [copies](Self::copies).
    pub(crate) fn takes(&mut self, wire: Option<Wire>, body: &Bytes, held: Option<&mut Held>) {
        if body.is_empty() || !self.has_objects {
            return;
        }
        let is_patch = self.event.verb == "patch";
        let asks_for_it = Level::Request <= self.rule.level;
        // Names are told at all levels; a whole object is read for that when there is no other way to them.
        if wire == Some(Wire::Json) && !asks_for_it {
            if let (false, Ok(named)) = (is_patch, serde_json::from_slice::<Named>(body)) {
                self.is_named(named);
            }
            return;
        }
        let value = match wire {
            Some(Wire::Protobuf) => protobuf::decode(body).ok(),
            Some(Wire::Json | Wire::Yaml) | None => {
                yaml::or_json(body).ok().map(|(value, _)| value)
            }
        };
        let Some(value) = value else { return };
        if !is_patch && let Ok(named) = Named::deserialize(&value) {
            self.is_named(named);
        }
        if asks_for_it {
            let text = self.text(value, !is_patch);
            // Of another encoding than JSON it may be longer than was thought.
            self._text = held.map(|held| held.split_or_more((COPIES_PER_BODY - 1) * text.len()));
            self.event.request_object = Some(text);
        }
    }

    fn is_named(&mut self, Named { metadata }: Named) {
        let Some(of) = &mut self.event.object_ref else { return };
        for (known, said) in [
            (&mut of.namespace, metadata.namespace),
            (&mut of.name, metadata.name),
            (&mut of.uid, metadata.uid),
            (&mut of.resource_version, metadata.resource_version),
        ] {
            if known.is_empty() {
                *known = said.unwrap_or_default();
            }
        }
    }

    fn text(&self, mut value: Value, is_object: bool) -> String {
        if is_object && self.rule.omit_managed_fields {
            drop_managed_fields(&mut value);
        }
        value.to_string()
    }

    /// This is its answer; what lasts is told of again when that is over.
    pub(crate) async fn answered(mut self: Box<Self>, response: Response<Body>) -> Response<Body> {
        self._answer = self.notes(&response);
        match self.progress {
            Progress::Refused => self.tell_last(Stage::ResponseStarted).await,
            Progress::Brief => self.tell_last(Stage::ResponseComplete).await,
            Progress::Lasting => {
                self.progress = Progress::Begun;
                self.emit(Stage::ResponseStarted).await;
                return response.map(|body| body.keeping_until_out(self));
            }
            Progress::Begun | Progress::Over => {}
        }
        response
    }

    /// Notes the answer, and what accounts for the text of its object.
    fn notes(&mut self, response: &Response<Body>) -> Option<Held> {
        let code = response.status().as_u16();
        let mut status = json!({"metadata": {}, "code": code});
        let asks_for_it = self.has_objects && self.rule.level == Level::RequestResponse;
        let failed = !response.status().is_success();
        let value = if asks_for_it || failed { object_of(response) } else { None };
        if let (true, Some(Value::Object(answer))) = (failed, &value) {
            note_status(&mut status, answer);
        }
        self.event.response_status = Some(status);
        if !asks_for_it || self.progress == Progress::Lasting {
            return None;
        }
        let Some(value) = value else {
            self.leaves_out("it goes out in pieces, or is no object");
            return None;
        };
        let text = self.text(value, true);
        // The request waits for the disk with it, and with the line that it is in. Both are there already, and who fills
        // a connection has no say in what is told of it: nothing more is made there until they are gone.
        let held =
            self.account.as_ref().map(|account| account.piece(COPIES_PER_ANSWER * text.len()));
        self.event.response_object = Some(text);
        held
    }

    fn leaves_out(&mut self, why: &str) {
        self.event.annotations.insert(LEFT_OUT.to_owned(), format!("left out: {why}"));
    }

    fn line_at(&mut self, stage: Stage) -> Option<Vec<u8>> {
        (self.event.stage, self.event.stage_began) = (stage, self.by.now());
        self.rule.at(stage).then(|| self.event.line())
    }

    async fn emit(&mut self, stage: Stage) {
        if let Some(line) = self.line_at(stage) {
            self.by.audit.log.write(line).await;
        }
    }

    async fn tell_last(&mut self, stage: Stage) {
        self.progress = Progress::Over;
        self.emit(stage).await;
    }
}

/// However it ends, it is told of.
impl Drop for Recording {
    fn drop(&mut self) {
        if self.progress == Progress::Over {
            return;
        }
        let mut stages = vec![Stage::ResponseComplete];
        if std::thread::panicking() {
            stages = vec![Stage::Panic];
            self.event.response_status = Some(json!({
                "metadata": {}, "status": "Failure", "reason": "InternalError", "code": 500,
                "message": "APIServer panic'd",
            }));
        } else if self.event.response_status.is_none() {
            // Nobody waits for the answer any more, which upstream calls a success.
            let early = "Connection closed early";
            let status =
                json!({"metadata": {}, "status": "Success", "message": early, "code": 200});
            self.event.response_status = Some(status);
            if self.progress == Progress::Lasting {
                stages.insert(0, Stage::ResponseStarted);
            }
        }
        for stage in stages {
            if let Some(line) = self.line_at(stage) {
                let held = self.heading.clone();
                let held = held.map(|held| -> Box<dyn Any + Send> { Box::new(held) });
                self.by.audit.log.write_now(line, held);
            }
        }
    }
}

/// What an object says of where it is.
#[derive(Default, Deserialize)]
struct Named {
    #[serde(default)]
    metadata: NamedMeta,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase")]
struct NamedMeta {
    namespace: Option<String>,
    name: Option<String>,
    uid: Option<String>,
    resource_version: Option<String>,
}

fn user_info(user: &User) -> UserInfo {
    UserInfo {
        username: user.name.clone(),
        uid: user.uid.clone(),
        groups: user.groups.clone(),
        extra: user.extra.clone(),
    }
}

/// By which ways it says to have come, and where it comes from. All but the last its client may have made up.
fn source_ips(headers: &HeaderMap, from: Option<IpAddr>) -> Vec<String> {
    let text = |name| headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let read = |text: &str| text.trim().parse::<IpAddr>().ok();
    let mut ips: Vec<IpAddr> =
        text("x-forwarded-for").split(',').filter_map(read).take(FORWARDED_MAX).collect();
    ips.extend(read(text("x-real-ip")).filter(|ip| !ips.contains(ip)));
    ips.extend(from.filter(|from| ips.last() != Some(from)));
    ips.iter().map(IpAddr::to_string).collect()
}

fn user_agent(headers: &HeaderMap) -> String {
    let agent = headers.get(USER_AGENT).map(|agent| String::from_utf8_lossy(agent.as_bytes()));
    let agent = agent.unwrap_or_default();
    if agent.len() <= USER_AGENT_BYTES_MAX {
        return agent.into_owned();
    }
    let end = agent.floor_char_boundary(USER_AGENT_BYTES_MAX);
    format!("{}...TRUNCATED", &agent[..end])
}

/// The object that an answer in one piece is.
fn object_of(response: &Response<Body>) -> Option<Value> {
    let headers = response.headers();
    let bytes = response.body().in_one_piece().filter(|bytes| !bytes.is_empty())?;
    let media = headers.get(CONTENT_TYPE)?.to_str().ok()?;
    if headers.contains_key(CONTENT_ENCODING) {
        return None;
    }
    match media.split(';').next().unwrap_or_default() {
        media::JSON => serde_json::from_slice(bytes).ok(),
        media::PROTOBUF => protobuf::decode(bytes).ok(),
        media::YAML => yaml::or_json(bytes).ok().map(|(value, _)| value),
        _ => None,
    }
}

/// Of a Status, what is bounded.
fn note_status(status: &mut Value, answer: &Map<String, Value>) {
    if answer.get("kind").and_then(Value::as_str) != Some("Status") {
        return;
    }
    for part in ["status", "message", "reason", "details"] {
        if let Some(value) = answer.get(part) {
            status[part] = value.clone();
        }
    }
}

fn drop_managed_fields(value: &mut Value) {
    if let Some(meta) = value.get_mut("metadata").and_then(Value::as_object_mut) {
        meta.remove("managedFields");
    }
    for item in value.get_mut("items").and_then(Value::as_array_mut).into_iter().flatten() {
        if let Some(meta) = item.get_mut("metadata").and_then(Value::as_object_mut) {
            meta.remove("managedFields");
        }
    }
}

#[cfg(test)]
mod tests {
    use freewheel_hub_audit::{AuditLog, LogDestination, LogOptions, Policy};
    use freewheel_hub_objects::clock::SystemClock;

    use super::*;
    use crate::memory_account::CONNECTION_BYTES_MAX;
    use crate::respond;

    #[tokio::test]
    async fn who_fills_a_connection_leaves_nothing_out_of_what_is_told() {
        let folder = tempfile::tempdir().unwrap();
        let destination = LogDestination::File(folder.path().join("audit.log"));
        let options =
            LogOptions { destination, bytes_max: 1 << 20, age_days_max: 0, backups_max: 0 };
        let rules = "rules: [{level: RequestResponse}]";
        let policy = format!("apiVersion: audit.k8s.io/v1\nkind: Policy\n{rules}");
        let log = AuditLog::open(options).unwrap();
        let audit = Arc::new(Audit { policy: Policy::read(&policy).unwrap(), log });
        let by = Auditing { audit, clock: Arc::new(SystemClock) };
        let account = MemoryAccount::new(Arc::default());
        let full = account.piece(CONNECTION_BYTES_MAX);
        let mut request = Request::get("/api/v1/namespaces/n/secrets").body(()).unwrap();
        let (asking, user) = (("1", None, None, Some(&account)), User::default());
        let recording = Recording::begin(&by, &mut request, asking, Some(&user)).await;
        let mut recording = recording.unwrap();
        let text = r#"{"items":[],"kind":"SecretList"}"#;
        let held = recording.notes(&respond::whole(200, media::JSON, text.into()));
        assert_eq!(recording.event.response_object.as_deref(), Some(text));
        assert_eq!(account.held(), CONNECTION_BYTES_MAX + COPIES_PER_ANSWER * text.len());
        drop((held, full));
        assert_eq!(account.held(), 0);
    }

    #[test]
    fn a_request_is_known_by_verb_and_object() {
        for (method, uri, verb, what) in [
            (Method::GET, "/api/v1/namespaces/n/pods", "list", "pods n "),
            (Method::GET, "/clusters/pi-7/api/v1/namespaces/n/pods/p/log", "get", "pods/log n p"),
            (Method::GET, "/api/v1/pods?watch=1", "watch", "pods  "),
            (Method::GET, "/api/v1/pods?fieldSelector=metadata.name%3Dp", "list", "pods  p"),
            (Method::DELETE, "/api/v1/namespaces/n/pods", "deletecollection", "pods n "),
            (Method::GET, "/api/v1/namespaces/n", "get", "namespaces n n"),
            (Method::POST, "/apis/apps/v1/namespaces/n/deployments", "create", "deployments n "),
            (Method::HEAD, "/version", "head", "-"),
            (Method::PUT, "/v2/x/blobs", "put", "-"),
        ] {
            let uri: Uri = uri.parse().unwrap();
            let info = Info::of(&method, &uri);
            let said = info.object_ref().map_or("-".to_owned(), |of| {
                let sub = if of.subresource.is_empty() { "" } else { "/" };
                format!("{}{sub}{} {} {}", of.resource, of.subresource, of.namespace, of.name)
            });
            assert_eq!((&*info.verb, &*said), (verb, what), "{method} {uri}");
        }
    }

    #[test]
    fn all_but_the_last_address_is_what_the_client_says() {
        let mut headers = HeaderMap::new();
        let from: IpAddr = "10.0.0.9".parse().unwrap();
        assert_eq!(source_ips(&headers, Some(from)), ["10.0.0.9"]);
        headers.insert("x-forwarded-for", "1.1.1.1, nonsense,2.2.2.2".parse().unwrap());
        headers.insert("x-real-ip", "10.0.0.9".parse().unwrap());
        assert_eq!(source_ips(&headers, Some(from)), ["1.1.1.1", "2.2.2.2", "10.0.0.9"]);
        headers.insert("x-forwarded-for", vec!["1.1.1.1"; 8_000].join(",").parse().unwrap());
        let ips = source_ips(&headers, Some(from));
        assert_eq!((ips.len(), ips.last().unwrap().as_str()), (16, "10.0.0.9"));
        headers.insert(USER_AGENT, "x".repeat(1_100).parse().unwrap());
        assert_eq!(user_agent(&headers).len(), 1_024 + "...TRUNCATED".len());
    }
}
