//! The registry's paths behind the API's door: the same TLS, the same callers, and logins.
//!
//! Guarantees:
//! - an upload or a download ends with the login or the certificate that it began with
//!   (`who_is_let_in_no_more_sends_and_is_sent_no_more`).

use std::sync::Arc;

use bytes::Bytes;
use freewheel_hub_apiserver::body::Body;
use freewheel_hub_apiserver::{BodyError, Extra, LoggedIn, Permitted, RequestBody, User};
use freewheel_hub_modules::{Modules, RegistryOnly};
use freewheel_hub_objects::Objects;
use http::{HeaderValue, Method, Request, Response, StatusCode, header};
use http_body_util::BodyExt as _;

use super::login;
use super::login_expiry::LoginExpiry;

/// Who asks.
enum Caller {
    /// Has the right by the API's own rules.
    Administrator(User),
    /// By name and password, which are in this header: may push and pull.
    LoggedIn(HeaderValue),
}

impl Caller {
    /// Whether they would be let in now.
    fn is_let_in(&self, objects: &Objects) -> bool {
        match self {
            Self::Administrator(user) => !user.has_ended(objects.clock().unix_seconds()),
            Self::LoggedIn(given) => login::is_good(objects, given),
        }
    }
}

/// Serves `/v2/…` to administrators and to those who have a login.
pub fn handler(modules: Modules, objects: Objects) -> Extra {
    Arc::new(move |user: Option<User>, request: Request<RequestBody>| {
        let (modules, objects) = (modules.clone(), objects.clone());
        Box::pin(async move { answer(&modules, objects, user, request).await })
    })
}

async fn answer<B>(
    modules: &Modules,
    objects: Objects,
    user: Option<User>,
    mut request: Request<B>,
) -> Response<Body>
where
    B: hyper::body::Body<Data = Bytes> + Send + Unpin,
    B::Error: Into<BodyError>,
{
    let caller = match admit(user, &request, &objects) {
        Ok(caller) => caller,
        Err(refusal) => return *refusal,
    };
    let by_login = matches!(caller, Caller::LoggedIn(_));
    if by_login {
        request.extensions_mut().insert(RegistryOnly);
    }
    let expiry = LoginExpiry::new(move || caller.is_let_in(&objects));
    let answer = modules.serve(request.map(|body| expiry.during(body))).await;
    if expiry.has_broken() {
        return *unauthorized("the login or the certificate has ended before all had come");
    }
    let mut response = answer.map(|body| Body::foreign(expiry.during(body).boxed_unsync()));
    if by_login {
        response.extensions_mut().insert(LoggedIn);
    }
    response
}

fn admit<B>(
    user: Option<User>,
    request: &Request<B>,
    objects: &Objects,
) -> Result<Caller, Box<Response<Body>>> {
    let is_known = user.is_some();
    let permitted = request.extensions().get::<Permitted>().is_some();
    if let Some(administrator) = user.filter(|_| permitted) {
        return Ok(Caller::Administrator(administrator));
    }
    let given = request.headers().get(header::AUTHORIZATION);
    if let Some(given) = given.filter(|given| login::is_good(objects, given)) {
        // An upload that is cancelled is one's own.
        let deletes = *request.method() == Method::DELETE
            && !request.uri().path().contains("/blobs/uploads/");
        if deletes {
            let text = "what is in the registry is deleted by administrators: `hub rm NAME:TAG`";
            return Err(refuse(StatusCode::FORBIDDEN, "DENIED", text));
        }
        return Ok(Caller::LoggedIn(given.clone()));
    }
    if is_known && given.is_none() {
        let text = "modules are pushed and pulled by administrators and with a login: \
                    `hub token create --registry` makes one";
        return Err(refuse(StatusCode::FORBIDDEN, "DENIED", text));
    }
    Err(unauthorized(match given {
        None => {
            "log in: `hub token create --registry` prints how; or show an administrator's certificate"
        }
        Some(_) => {
            "the login is unknown, wrong or over: `hub token create --registry` makes a new one"
        }
    }))
}

fn unauthorized(text: &str) -> Box<Response<Body>> {
    let mut response = refuse(StatusCode::UNAUTHORIZED, "UNAUTHORIZED", text);
    let challenge = HeaderValue::from_static("Basic realm=\"freewheel\", charset=\"UTF-8\"");
    response.headers_mut().insert(header::WWW_AUTHENTICATE, challenge);
    response
}

fn refuse(status: StatusCode, code: &str, message: &str) -> Box<Response<Body>> {
    let body = serde_json::json!({"errors": [{"code": code, "message": message}]});
    let mut response = Response::new(Body::whole(body.to_string().into()));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    // Older clients of docker look for it before they look at the challenge.
    let version = header::HeaderName::from_static("docker-distribution-api-version");
    headers.insert(version, HeaderValue::from_static("registry/2.0"));
    Box::new(response)
}

#[cfg(test)]
pub(super) mod tests {
    use std::pin::Pin;
    use std::sync::atomic::{AtomicI64, Ordering};
    use std::task::{Context, Poll};

    use base64::Engine as _;
    use base64::engine::general_purpose::STANDARD;
    use freewheel_hub_api::kinds;
    use freewheel_hub_apiserver::Tls;
    use freewheel_hub_apiserver::authn::Proven;
    use freewheel_hub_modules::{FleetRoot, Options};
    use freewheel_hub_objects::clock::{Clock, SystemClock, SystemRandom};
    use freewheel_hub_objects::{DeleteOptions, ObjectRef, WriteOptions};
    use freewheel_hub_pki::{Pki, now};
    use freewheel_hub_store::memory::MemoryStore;
    use freewheel_link::digest::Digest;
    use freewheel_link::names::ClusterName;
    use hyper::body::Frame;
    use rustls_pki_types::CertificateDer;
    use rustls_pki_types::pem::PemObject as _;
    use serde_json::json;
    use tokio::sync::mpsc;

    use super::*;

    /// A body that comes as it is given.
    struct Pieces(mpsc::Receiver<Bytes>);

    impl hyper::body::Body for Pieces {
        type Data = Bytes;
        type Error = BodyError;

        fn poll_frame(
            mut self: Pin<&mut Self>,
            cx: &mut Context<'_>,
        ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
            self.0.poll_recv(cx).map(|piece| piece.map(|piece| Ok(Frame::data(piece))))
        }
    }

    fn pieces() -> (mpsc::Sender<Bytes>, Pieces) {
        let (send, receive) = mpsc::channel(1);
        (send, Pieces(receive))
    }

    /// The host's clock, so many seconds ahead.
    #[derive(Clone, Default)]
    pub(in crate::serve) struct Ahead(pub Arc<AtomicI64>);

    impl Clock for Ahead {
        fn unix_nanos(&self) -> i128 {
            SystemClock.unix_nanos() + i128::from(self.0.load(Ordering::Relaxed)) * 1_000_000_000
        }
    }

    struct Bench {
        _dir: tempfile::TempDir,
        modules: Modules,
        objects: Objects,
        ahead: Ahead,
        admin: User,
        login: HeaderValue,
    }

    fn place(plural: &str, namespace: &str, name: &str) -> ObjectRef {
        let kind = kinds::find("", "v1", plural).unwrap().clone();
        let (cluster, namespace, name) = (ClusterName::root(), namespace.into(), name.to_owned());
        ObjectRef { kind, cluster, namespace, name }
    }

    impl Bench {
        async fn new() -> Self {
            let dir = tempfile::tempdir().unwrap();
            let ahead = Ahead::default();
            let (store, clock) = (Arc::new(MemoryStore::new()), Arc::new(ahead.clone()));
            let objects = Objects::with(store, clock, Arc::new(SystemRandom));
            let namespace = place("namespaces", "", "kube-system");
            objects.create(&WriteOptions::default(), &namespace, json!({})).await.unwrap();
            let root = FleetRoot::open(&dir.path().join("root"), true).unwrap();
            let options = Options {
                dir: dir.path().join("modules"),
                compiler: "/bin/false".into(),
                root,
                may_make: true,
            };
            std::fs::create_dir(&options.dir).unwrap();
            let pki = Pki::open(dir.path(), false).unwrap();
            let (own, _) = pki.serving(&["localhost".into()], &[], now()).unwrap();
            let tls = Tls::new(own.chain, own.key, &[pki.authority.ca().clone()]).unwrap();
            let shown = CertificateDer::from_pem_slice(pki.admin_pem.as_bytes()).unwrap();
            let admin = (**Proven::of(&tls, Some(&[shown])).unwrap().user()).clone();
            let modules = Modules::open(options).unwrap();
            let login = format!("Basic {}", STANDARD.encode("abc:secret"));
            let login = HeaderValue::from_str(&login).unwrap();
            Self { _dir: dir, modules, objects, ahead, admin, login }
        }

        /// Begins what this caller was given.
        async fn lets_in(&self, by_login: bool) {
            self.ahead.0.store(0, Ordering::Relaxed);
            if by_login {
                let secret = login::secret("abc", "secret", "2999-01-01T00:00:00Z");
                let place = place("secrets", "kube-system", "");
                self.objects.create(&WriteOptions::default(), &place, secret).await.unwrap();
            }
        }

        /// Ends it.
        async fn lets_out(&self, by_login: bool) {
            if by_login {
                let secret = place("secrets", "kube-system", "registry-login-abc");
                let how = DeleteOptions::default();
                self.objects.delete(&WriteOptions::default(), &secret, &how).await.unwrap();
            } else {
                self.ahead.0.store(10 * 365 * 86_400, Ordering::Relaxed);
            }
        }

        async fn ask(
            &self,
            by_login: bool,
            (method, path): (&str, &str),
            body: Pieces,
        ) -> Response<Body> {
            let mut request = Request::builder().method(method).uri(path).body(body).unwrap();
            if by_login {
                request.headers_mut().insert(header::AUTHORIZATION, self.login.clone());
            }
            let user = (!by_login).then(|| self.admin.clone());
            if !by_login {
                request.extensions_mut().insert(Permitted);
            }
            answer(&self.modules, self.objects.clone(), user, request).await
        }
    }

    #[tokio::test]
    async fn who_is_let_in_no_more_sends_and_is_sent_no_more() {
        let bench = Bench::new().await;
        let content = Bytes::from(vec![7; 1 << 20]);
        let digest = Digest::of(&content);
        let (send, body) = pieces();
        send.try_send(content.clone()).unwrap();
        drop(send);
        let whole = format!("/v2/team/app/blobs/uploads/?digest={digest}");
        assert_eq!(bench.ask(false, ("POST", &whole), body).await.status(), 201);

        for by_login in [false, true] {
            bench.lets_in(by_login).await;
            let blob = format!("/v2/team/app/blobs/{digest}");
            let answer = bench.ask(by_login, ("GET", &blob), pieces().1).await;
            assert_eq!(answer.status(), 200);
            let mut body = answer.into_body();
            let mut got = body.frame().await.unwrap().unwrap().into_data().unwrap().len();
            bench.lets_out(by_login).await;
            while let Some(Ok(frame)) = body.frame().await {
                got += frame.into_data().map_or(0, |piece| piece.len());
            }
            assert!(got < content.len(), "by login: {by_login}");

            bench.lets_in(by_login).await;
            let (_, nothing) = pieces();
            let begun = bench.ask(by_login, ("POST", "/v2/team/app/blobs/uploads/"), nothing).await;
            assert_eq!(begun.status(), 202);
            let upload = begun.headers()[header::LOCATION].to_str().unwrap().to_owned();
            let (send, body) = pieces();
            let sends = async {
                send.send(content.slice(..1000)).await.unwrap();
                drop(send.reserve().await.unwrap());
                bench.lets_out(by_login).await;
                let _ = send.send(content.slice(1000..)).await;
                drop(send);
            };
            let put = format!("{upload}?digest={digest}");
            let (answer, ()) = tokio::join!(bench.ask(by_login, ("PUT", &put), body), sends);
            assert_eq!(answer.status(), 401, "by login: {by_login}");
        }
    }
}
