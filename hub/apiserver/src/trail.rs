//! The trail of one request: its number, and the span that what is logged on its way is in.
//!
//! The number is what the client calls it (`Audit-ID`), or one that is drawn, as at kube-apiserver; it goes back with the
//! answer. The span is one of `debug`: with the usual filter nobody looks at it, and it is not made. What the audit log is
//! told of the request is kept here, too.
//!
//! Guarantees:
//! - every answer has a number, its client's own as it came (`every_answer_has_the_number_of_its_request`);
//! - what is logged while a request is answered says its number, of a long one the beginning, user, cluster, verb and
//!   resource (`what_is_logged_of_a_request_says_which_it_is`);
//! - where nobody looks there is no span (`a_request_that_nobody_looks_at_has_no_span`).

mod failure_log;

use std::borrow::Cow;
use std::net::IpAddr;
use std::sync::Arc;

use bytes::Bytes;
use freewheel_hub_objects::Notes;
use freewheel_hub_schema::error::ApiError;
use http::header::{HeaderMap, HeaderName, HeaderValue};
use http::{Method, Request, Response, request};
use tracing::field::Empty;
use tracing::{Span, debug_span, warn};

use crate::audit::{Auditing, Recording};
use crate::authn::User;
use crate::authz::{self, Attributes, Authorizer as _, Authorizers};
use crate::body::Body;
use crate::media::Wire;
use crate::memory_account::{Held, MemoryAccount};
use crate::path::Target;
use crate::tenant::Tenant;
pub(crate) use failure_log::FailureLog;

/// Where the number is.
const AUDIT_ID: HeaderName = HeaderName::from_static("audit-id");

/// Of a client's own number, in the log alone, as at kube-apiserver: each line would carry all of it.
const LOGGED_BYTES_MAX: usize = 64;

/// One request, as it is told of.
pub(crate) struct Trail {
    number: HeaderValue,
    span: Span,
    /// Where the request comes from.
    from: Option<IpAddr>,
    /// What accounts for what it was asked with.
    heading: Option<Arc<Held>>,
    /// And for what is made of it.
    account: Option<Arc<MemoryAccount>>,
    /// What the audit log is told of it, if anything.
    recording: Option<Box<Recording>>,
}

impl Trail {
    /// A request has come from this address.
    pub(crate) fn of(parts: &request::Parts, from: Option<IpAddr>) -> Self {
        let number = number(&parts.headers);
        let span = debug_span!(
            "request",
            id = &*text(&number),
            method = %parts.method,
            path = parts.uri.path(),
            user = Empty,
            cluster = Empty,
            verb = Empty,
            resource = Empty,
        );
        Self { number, span, from, heading: None, account: None, recording: None }
    }

    /// Where what is logged of it belongs.
    pub(crate) const fn span(&self) -> &Span {
        &self.span
    }

    /// This accounts for what it was asked with, and this for what is made of it.
    pub(crate) fn is_asked_with(
        &mut self,
        heading: Option<Arc<Held>>,
        account: &Arc<MemoryAccount>,
    ) {
        (self.heading, self.account) = (heading, Some(account.clone()));
    }

    /// It is this caller's.
    pub(crate) fn is_by(&self, user: &User) {
        self.span.record("user", &*user.name);
    }

    /// It is for this.
    pub(crate) fn is_for(&self, tenant: &Tenant, verb: &str, target: &Target<'_>) {
        if self.span.is_disabled() {
            return;
        }
        self.span.record("cluster", tenant.name.as_str()).record("verb", verb);
        match target.subresource {
            None => self.span.record("resource", target.plural),
            Some(sub) => self.span.record("resource", format!("{}/{sub}", target.plural)),
        };
    }

    /// It is told of where the hub has a policy for that, as this caller's, or nobody's where that cannot be found out.
    pub(crate) async fn begin<B>(
        &mut self,
        auditing: Option<&Auditing>,
        request: &mut Request<B>,
        user: Option<&User>,
    ) {
        let Some(auditing) = auditing else { return };
        let number = String::from_utf8_lossy(self.number.as_bytes());
        let from = (&*number, self.from, self.heading.as_ref(), self.account.as_ref());
        self.recording = Recording::begin(auditing, request, from, user).await;
    }

    /// It runs as somebody else.
    pub(crate) fn runs_as(&mut self, user: &User) {
        if let Some(recording) = &mut self.recording {
            recording.runs_as(user);
        }
    }

    /// Lets the caller pass or refuses, and tells which.
    ///
    /// # Errors
    /// 403.
    pub(crate) async fn check(
        &mut self,
        authorizers: &Authorizers,
        asked: &Attributes<'_>,
    ) -> Result<(), ApiError> {
        let decision = authorizers.decide(asked).await;
        if let Some(recording) = &mut self.recording {
            recording.is_decided(&decision);
        }
        authz::answer(asked, decision)
    }

    /// This was said by those who have a say in it.
    pub(crate) fn is_noted(&mut self, notes: &Notes) {
        if let Some(recording) = &mut self.recording {
            recording.is_noted(notes);
        }
    }

    /// How many times a body is there that comes with it: the audit log may be told of all of it.
    pub(crate) fn copies(&self) -> usize {
        self.recording.as_ref().map_or(1, |recording| recording.copies())
    }

    /// This has come with it, and there was room for so many [copies](Self::copies).
    pub(crate) fn takes(&mut self, wire: Option<Wire>, body: &Bytes, held: Option<&mut Held>) {
        if let Some(recording) = &mut self.recording {
            recording.takes(wire, body, held);
        }
    }

    /// This is its answer.
    pub(crate) async fn answered(&mut self, response: Response<Body>) -> Response<Body> {
        match self.recording.take() {
            Some(recording) => recording.answered(response).await,
            None => response,
        }
    }

    /// It has failed for a reason that is the hub's. Its client has the number, too. Before it so many others were not
    /// logged.
    pub(crate) fn failed(&self, user: &User, (method, path): (&Method, &str), unlogged: u64) {
        let (id, user) = (text(&self.number), &user.name);
        warn!(id = &*id, user, %method, path, unlogged, "a request failed inside of the hub");
    }

    /// Puts its number among the headers of its answer.
    pub(crate) fn set_header(self, headers: &mut HeaderMap) {
        headers.insert(AUDIT_ID, self.number);
    }
}

fn number(headers: &HeaderMap) -> HeaderValue {
    let own = headers.get(AUDIT_ID).filter(|own| !own.is_empty());
    // A copy: all that has come with a request would stay as long as what is a part of it.
    let own = own.and_then(|own| HeaderValue::from_bytes(own.as_bytes()).ok());
    let mut number = own.unwrap_or_else(drawn);
    // Another one with each answer: it is to take no place of what is the same in all of them.
    number.set_sensitive(true);
    number
}

/// It tells requests apart and is no secret, so it need not be hard to guess.
fn drawn() -> HeaderValue {
    let drawn = uuid::Builder::from_random_bytes(fastrand::u128(..).to_le_bytes()).into_uuid();
    let mut text = uuid::Uuid::encode_buffer();
    let text = drawn.as_hyphenated().encode_lower(&mut text);
    HeaderValue::from_str(text).unwrap_or(HeaderValue::from_static("0"))
}

fn text(number: &HeaderValue) -> Cow<'_, str> {
    let bytes = number.as_bytes();
    String::from_utf8_lossy(bytes.get(..LOGGED_BYTES_MAX).unwrap_or(bytes))
}

#[cfg(test)]
mod tests {
    use http::Request;
    use tracing_subscriber::filter::LevelFilter;
    use tracing_subscriber::layer::SubscriberExt as _;

    use super::*;

    /// Whether there is a span while the log shows this.
    fn is_there(shown: LevelFilter) -> bool {
        let log = tracing_subscriber::registry().with(shown);
        tracing::subscriber::with_default(log, || {
            let (parts, ()) = Request::new(()).into_parts();
            !Trail::of(&parts, None).span().is_disabled()
        })
    }

    #[test]
    fn a_request_that_nobody_looks_at_has_no_span() {
        assert_eq!([LevelFilter::INFO, LevelFilter::DEBUG].map(is_there), [false, true]);
    }
}
