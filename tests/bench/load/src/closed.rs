//! The closed loop: N connections, each with one request under way.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::Method;
use serde::Deserialize;
use serde_json::{Value, json};

use crate::LoadError;
use crate::client::{Connection, Dialer, Server};
use crate::figures::{Times, own_cpu};

/// What a loop does.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    Create,
    Get,
    Page,
}

/// What `create` makes.
#[derive(Clone, Copy, Default, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum Made {
    /// With 1 KiB of data
    #[default]
    ConfigMap,
    /// That no scheduler looks at
    Pod,
}

/// How much of it.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Order {
    server: Server,
    /// For `page` the path itself, else the collection, such as `/api/v1/namespaces/bench/configmaps`.
    path: String,
    /// Start of the objects' names: tells rounds apart.
    #[serde(default)]
    prefix: String,
    connections: usize,
    #[serde(default)]
    seconds: f64,
    /// What is created.
    #[serde(default)]
    object: Made,
    /// The most requests; `get` asks for `prefix-0` to `prefix-(count - 1)`.
    count: u64,
}

/// Bytes in the one value of a `ConfigMap` that is written.
const PAYLOAD: usize = 1024;

struct Shared {
    order: Order,
    kind: Kind,
    sent: Cell<u64>,
    failed: Cell<u64>,
    first_failure: RefCell<Option<String>>,
    until: Instant,
}

/// A `ConfigMap` with 1 KiB of data.
pub fn config_map(name: &str, mark: &str) -> Bytes {
    let mut value = String::with_capacity(PAYLOAD);
    value.push_str(mark);
    while value.len() < PAYLOAD {
        value.push(fastrand::alphanumeric());
    }
    let object = json!({
        "apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}, "data": {"value": value},
    });
    object.to_string().into()
}

/// A pod for a scheduler that is not there: it stays as it was made.
fn pod(name: &str) -> Bytes {
    let container = json!({
        "name": "web", "image": "registry.example.com/shop/web:v1",
        "ports": [{"containerPort": 8080}],
        "env": [{"name": "LEVEL", "value": "info"}],
        "resources": {"requests": {"cpu": "10m", "memory": "16Mi"}, "limits": {"memory": "64Mi"}},
    });
    let object = json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": {"name": name, "labels": {"app": "web", "track": "stable"}},
        "spec": {"schedulerName": "nobody", "automountServiceAccountToken": false, "containers": [container]},
    });
    object.to_string().into()
}

pub async fn run(order: Order, kind: Kind) -> Result<Value, LoadError> {
    let dialer = Dialer::new(&order.server)?;
    let mut open = Vec::new();
    for _ in 0..order.connections {
        open.push(dialer.open().await?);
    }
    let cpu = own_cpu();
    let start = Instant::now();
    let until = start + Duration::from_secs_f64(order.seconds);
    let shared = Rc::new(Shared {
        order,
        kind,
        sent: Cell::new(0),
        failed: Cell::new(0),
        first_failure: RefCell::new(None),
        until,
    });
    let tasks: Vec<_> = open
        .into_iter()
        .map(|connection| tokio::task::spawn_local(one(Rc::clone(&shared), connection)))
        .collect();
    let mut times = Times::default();
    for task in tasks {
        let done = task.await.map_err(|e| LoadError::Late(format!("a connection ended: {e}")))?;
        times.extend(done);
    }
    let seconds = start.elapsed().as_secs_f64();
    let good = times.len();
    let mut figures = times.figures();
    figures["seconds"] = json!(seconds);
    figures["per_second"] = json!(f64::from(u32::try_from(good).unwrap_or(u32::MAX)) / seconds);
    figures["failed"] = json!(shared.failed.get());
    figures["first_failure"] = json!(*shared.first_failure.borrow());
    figures["driver_cpu"] = json!(own_cpu() - cpu);
    Ok(figures)
}

async fn one(shared: Rc<Shared>, mut connection: Connection) -> Times {
    let mut times = Times::default();
    loop {
        let number = shared.sent.get();
        let started = Instant::now();
        if shared.order.count <= number || shared.until <= started {
            return times;
        }
        shared.sent.set(number + 1);
        let (method, path, body, expected) = shared.request(number);
        // Making the request is the driver's work, not the server's.
        let started = Instant::now();
        match connection.must(method, &path, body, &[expected]).await {
            Ok(body) if shared.kind == Kind::Get && body.len() < PAYLOAD => {
                shared.fail(format!("{path} was answered with {} bytes", body.len()));
            }
            Ok(_) => times.push(started.elapsed()),
            Err(error) => {
                shared.fail(error.to_string());
                // A connection that broke cannot be asked again; the others go on.
                if !matches!(error, LoadError::Answer { .. }) {
                    return times;
                }
            }
        }
    }
}

impl Shared {
    fn fail(&self, why: String) {
        self.failed.set(self.failed.get() + 1);
        self.first_failure.borrow_mut().get_or_insert(why);
    }

    fn request(&self, number: u64) -> (Method, String, Bytes, u16) {
        let Order { path, prefix, count, object, .. } = &self.order;
        match self.kind {
            Kind::Create => {
                let name = format!("{prefix}-{number}");
                let body = match object {
                    Made::ConfigMap => config_map(&name, ""),
                    Made::Pod => pod(&name),
                };
                (Method::POST, path.clone(), body, 201)
            }
            // A step that is prime to every count used visits all objects in no useful order.
            Kind::Get => {
                let one = number.wrapping_mul(7919) % (*count).min(FILLED);
                (Method::GET, format!("{path}/{prefix}-{one}"), Bytes::new(), 200)
            }
            Kind::Page => (Method::GET, path.clone(), Bytes::new(), 200),
        }
    }
}

/// Objects that `fill` makes for `get`.
const FILLED: u64 = 1000;

/// Makes the objects that `get` asks for, and the namespace they live in.
pub async fn fill(order: &Order) -> Result<Value, LoadError> {
    let mut connection = Dialer::new(&order.server)?.open().await?;
    namespace(&mut connection, &order.path).await?;
    for number in 0..FILLED.min(order.count) {
        let body = config_map(&format!("{}-{number}", order.prefix), "");
        connection.must(Method::POST, &order.path, body, &[201, 409]).await?;
    }
    Ok(json!({"filled": FILLED.min(order.count)}))
}

/// Makes the namespace in `…/namespaces/NAME/…`.
pub async fn namespace(connection: &mut Connection, path: &str) -> Result<(), LoadError> {
    let Some((before, after)) = path.split_once("/namespaces/") else { return Ok(()) };
    let name = after.split('/').next().unwrap_or_default();
    let body = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}});
    let root = before.replace("/apis/apps/v1", "/api/v1");
    connection
        .must(Method::POST, &format!("{root}/namespaces"), body.to_string().into(), &[201, 409])
        .await?;
    Ok(())
}
