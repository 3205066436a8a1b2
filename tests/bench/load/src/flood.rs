//! More clients of one user than a server has room for: each asks again at once, whatever it was answered.
//!
//! What they are answered is told by kind. A refusal is what is measured here, no failure.

use std::cell::Cell;
use std::rc::Rc;
use std::time::{Duration, Instant};

use http::Method;
use http_body_util::BodyExt as _;
use serde::Deserialize;
use serde_json::{Value, json};

use crate::LoadError;
use crate::client::{Connection, Dialer, Server};
use crate::closed::config_map;

/// How much.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Order {
    server: Server,
    /// The collection that they write to and list, in turns.
    path: String,
    prefix: String,
    connections: usize,
    seconds: f64,
}

/// How many answers of each kind there were.
#[derive(Default)]
struct Answers {
    done: Cell<u64>,
    /// 429 with Retry-After
    later: Cell<u64>,
    /// 429 without it
    silent: Cell<u64>,
    /// Any other status
    other: Cell<u64>,
    /// Connections that ended, or were not taken
    broken: Cell<u64>,
}

pub async fn run(order: Order) -> Result<Value, LoadError> {
    let (order, answers) = (Rc::new(order), Rc::new(Answers::default()));
    let dialer = Rc::new(Dialer::new(&order.server)?);
    let until = Instant::now() + Duration::from_secs_f64(order.seconds);
    let tasks: Vec<_> = (0..order.connections)
        .map(|number| {
            let client =
                one(number, Rc::clone(&order), Rc::clone(&dialer), Rc::clone(&answers), until);
            tokio::task::spawn_local(client)
        })
        .collect();
    for task in tasks {
        task.await.map_err(|e| LoadError::Late(format!("a client ended: {e}")))?;
    }
    let Answers { done, later, silent, other, broken } = &*answers;
    Ok(json!({
        "done": done.get(), "later": later.get(), "silent": silent.get(), "other": other.get(),
        "broken": broken.get(), "seconds": order.seconds,
    }))
}

async fn one(
    number: usize,
    order: Rc<Order>,
    dialer: Rc<Dialer>,
    answers: Rc<Answers>,
    until: Instant,
) {
    let more = |count: &Cell<u64>| count.set(count.get() + 1);
    let mut asked = 0_u64;
    while Instant::now() < until {
        let Ok(mut connection) = dialer.open().await else {
            more(&answers.broken);
            // Nobody is served sooner by whom the kernel turns away in a circle.
            tokio::time::sleep(Duration::from_millis(50)).await;
            continue;
        };
        while Instant::now() < until {
            asked += 1;
            match ask(&mut connection, &order, number, asked).await {
                Ok((200..=299, _)) => more(&answers.done),
                Ok((429, true)) => more(&answers.later),
                Ok((429, false)) => more(&answers.silent),
                Ok(_) => more(&answers.other),
                Err(_) => {
                    more(&answers.broken);
                    break;
                }
            }
        }
    }
}

/// The status, and whether it said when to come again.
async fn ask(
    connection: &mut Connection,
    order: &Order,
    client: usize,
    number: u64,
) -> Result<(u16, bool), LoadError> {
    let answer = if number.is_multiple_of(2) {
        let path = format!("{}?limit=50", order.path);
        connection.start(Method::GET, &path, bytes::Bytes::new()).await?
    } else {
        let body = config_map(&format!("{}-{client}-{number}", order.prefix), "");
        connection.start(Method::POST, &order.path, body).await?
    };
    let status = answer.status().as_u16();
    let later = answer.headers().contains_key("retry-after");
    answer.into_body().collect().await?;
    Ok((status, later))
}
