//! `/livez`, `/readyz`, `/healthz`: plain text, one line per check when asked for, as kube-apiserver's.
//!
//! Alive is what a restart would not make better; ready is who can serve all of the API. Everybody may
//! ask whether, so the list names what fails and withholds why: the reason is in the log, and at
//! `/readyz/NAME` of the root for who may ask there.
//!
//! Guarantees:
//! - the log has a line for each change of a check, however often it is asked (`a_change_is_told_once`).

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use http::{HeaderValue, Response};
use parking_lot::Mutex;
use tracing::info;

use crate::body::Body;
use crate::{query, respond};

/// One thing that must hold.
#[derive(Clone)]
pub struct Check {
    /// As in `/readyz/NAME`.
    pub name: &'static str,
    /// Whether the hub is not alive without it: a restart may bring it back.
    pub vital: bool,
    /// `Err` says why not.
    pub run: Arc<dyn Fn() -> Result<(), String> + Send + Sync>,
    /// As it was told last.
    fails: Arc<AtomicBool>,
    /// Since when somebody has seen it fail; not at all while it holds.
    since: Arc<Mutex<Option<i64>>>,
}

impl Check {
    /// What a ready hub needs.
    #[must_use]
    pub fn of_readiness(
        name: &'static str,
        run: impl Fn() -> Result<(), String> + Send + Sync + 'static,
    ) -> Self {
        let (fails, since) = <(Arc<AtomicBool>, Arc<Mutex<Option<i64>>>)>::default();
        Self { name, vital: false, run: Arc::new(run), fails, since }
    }

    /// What a hub that is alive needs.
    #[must_use]
    pub fn of_liveness(
        name: &'static str,
        run: impl Fn() -> Result<(), String> + Send + Sync + 'static,
    ) -> Self {
        Self { vital: true, ..Self::of_readiness(name, run) }
    }

    /// Whether it holds, for the log too when that has changed.
    pub(crate) fn run(&self) -> Result<(), String> {
        let holds = (self.run)();
        if self.changes(holds.is_err()) {
            match &holds {
                Ok(()) => info!(check = self.name, "a health check holds again"),
                Err(error) => info!(check = self.name, error, "a health check fails"),
            }
        }
        if holds.is_ok() {
            *self.since.lock() = None;
        }
        holds
    }

    /// Why it fails, and since when somebody has seen that; nothing, where it holds.
    pub(crate) fn failing(&self, now: i64) -> Option<(String, i64)> {
        let why = self.run().err()?;
        Some((why, *self.since.lock().get_or_insert(now)))
    }

    fn changes(&self, fails: bool) -> bool {
        self.fails.swap(fails, Ordering::Relaxed) != fails
    }
}

/// The answer of a probe. `check` names one check or is empty for all; `query` may ask for `verbose` and
/// `exclude` some. Why a check fails is `told` to those of the whole hub alone.
#[must_use]
pub fn answer(
    probe: &str,
    (check, shows_why): (&str, bool),
    query: &str,
    checks: &[Check],
) -> Response<Body> {
    let checks = checks.iter().filter(|check| check.vital || probe != "livez");
    let mut response = match check {
        "" => all(probe, query, checks),
        "ping" => respond::text(200, "ok".to_owned()),
        name => match checks.into_iter().find(|check| check.name == name) {
            Some(check) => one(check, shows_why),
            None => return respond::failure(&respond::no_such_path()),
        },
    };
    let name = http::header::X_CONTENT_TYPE_OPTIONS;
    response.headers_mut().insert(name, HeaderValue::from_static("nosniff"));
    response
}

fn one(check: &Check, shows_why: bool) -> Response<Body> {
    match check.run() {
        Ok(()) => respond::text(200, "ok".to_owned()),
        Err(_) if !shows_why => {
            respond::text(500, "internal server error: reason withheld\n".to_owned())
        }
        Err(why) => respond::text(500, format!("internal server error: {why}\n")),
    }
}

fn all<'a>(probe: &str, query: &str, checks: impl Iterator<Item = &'a Check>) -> Response<Body> {
    let asked: Vec<_> = query::pairs(query).collect();
    let mut excluded: BTreeSet<&str> = asked
        .iter()
        .filter(|(name, _)| name == "exclude")
        .map(|(_, value)| value.as_ref())
        .collect();
    let (mut lines, mut failed) = (String::new(), false);
    let mut line = |name: &str, holds: &dyn Fn() -> Result<(), String>| {
        if excluded.remove(name) {
            lines.push_str(&format!("[+]{name} excluded: ok\n"));
            return;
        }
        match holds() {
            Ok(()) => lines.push_str(&format!("[+]{name} ok\n")),
            Err(_) => {
                failed = true;
                lines.push_str(&format!("[-]{name} failed: reason withheld\n"));
            }
        }
    };
    line("ping", &|| Ok(()));
    checks.for_each(|check| line(check.name, &|| check.run()));
    if !excluded.is_empty() {
        let names: Vec<_> = excluded.iter().map(|name| format!("{name:?}")).collect();
        let names = names.join(",");
        lines.push_str(&format!(
            "warn: some health checks cannot be excluded: no matches for {names}\n"
        ));
    }
    if failed {
        return respond::text(500, format!("{lines}{probe} check failed\n"));
    }
    if asked.iter().any(|(name, _)| name == "verbose") {
        respond::text(200, format!("{lines}{probe} check passed\n"))
    } else {
        respond::text(200, "ok".to_owned())
    }
}

#[cfg(test)]
mod tests {
    use http_body_util::BodyExt as _;

    use super::*;

    async fn check(probe: &str, name: &str, query: &str, code: u16, text: &str) {
        let checks = [
            Check::of_liveness("gateway", || Ok(())),
            Check::of_readiness("store", || Err("no space left".to_owned())),
        ];
        let answer = answer(probe, (name, true), query, &checks);
        assert_eq!(answer.status(), code);
        let body = answer.into_body().collect().await.unwrap().to_bytes();
        assert_eq!(String::from_utf8_lossy(&body), text, "{probe} {name} {query}");
    }

    #[tokio::test]
    async fn the_list_names_what_fails_and_withholds_why() {
        let list =
            "[+]ping ok\n[+]gateway ok\n[-]store failed: reason withheld\nreadyz check failed\n";
        check("readyz", "", "", 500, list).await;
        check("readyz", "", "verbose", 500, list).await;
        check("readyz", "store", "", 500, "internal server error: no space left\n").await;
        check("readyz", "gateway", "", 200, "ok").await;
    }

    #[test]
    fn a_change_is_told_once() {
        let check = Check::of_readiness("store", || Ok(()));
        let told = [true, true, false, false, true].map(|fails| check.clone().changes(fails));
        assert_eq!(told, [true, false, true, false, true]);
        assert!(!Check::of_liveness("gateway", || Ok(())).changes(false), "it is well at first");
    }

    #[tokio::test]
    async fn who_asks_in_one_cluster_is_not_told_why() {
        let checks = [Check::of_readiness("store", || Err("no space left".to_owned()))];
        let answer = answer("readyz", ("store", false), "", &checks);
        assert_eq!(answer.status(), 500);
        let body = answer.into_body().collect().await.unwrap().to_bytes();
        assert_eq!(body, "internal server error: reason withheld\n");
    }

    #[tokio::test]
    async fn alive_is_who_cannot_be_helped_by_a_restart() {
        check("livez", "", "", 200, "ok").await;
        check("livez", "", "verbose", 200, "[+]ping ok\n[+]gateway ok\nlivez check passed\n").await;
    }

    #[tokio::test]
    async fn checks_can_be_excluded() {
        check("readyz", "", "exclude=store", 200, "ok").await;
        check(
            "readyz",
            "",
            "verbose&exclude=store&exclude=etcd",
            200,
            "[+]ping ok\n[+]gateway ok\n[+]store excluded: ok\n\
             warn: some health checks cannot be excluded: no matches for \"etcd\"\nreadyz check passed\n",
        )
        .await;
    }
}
