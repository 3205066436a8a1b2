//! `/livez`, `/readyz`, `/healthz`: plain text, one line per check when asked for.

use std::sync::Arc;

use http::Response;

use crate::body::Body;
use crate::respond;

/// One thing that must hold for the hub to be ready.
#[derive(Clone)]
pub struct Check {
    /// As in `/readyz/NAME`.
    pub name: &'static str,
    /// `Err` says why not.
    pub run: Arc<dyn Fn() -> Result<(), String> + Send + Sync>,
}

/// The answer of a probe; `check` is empty for all, `query` may ask for `verbose`.
#[must_use]
pub fn answer(probe: &str, check: &str, query: &str, checks: &[Check]) -> Response<Body> {
    // Alive is who answers at all; ready is who can serve.
    let checks = if probe == "livez" { &[][..] } else { checks };
    if !check.is_empty() {
        let one = checks.iter().find(|c| c.name == check);
        return match one {
            Some(one) => match (one.run)() {
                Ok(()) => respond::text(200, "ok".to_owned()),
                Err(why) => respond::text(500, format!("internal server error: {why}\n")),
            },
            None if check == "ping" => respond::text(200, "ok".to_owned()),
            None => respond::failure(&respond::no_such_path()),
        };
    }
    let mut lines = String::from("[+]ping ok\n");
    let mut failed = false;
    for check in checks {
        match (check.run)() {
            Ok(()) => lines.push_str(&format!("[+]{} ok\n", check.name)),
            Err(why) => {
                failed = true;
                lines.push_str(&format!("[-]{} failed: {why}\n", check.name));
            }
        }
    }
    if failed {
        return respond::text(500, format!("{lines}{probe} check failed\n"));
    }
    let verbose = crate::query::pairs(query).any(|(name, _)| name == "verbose");
    if verbose {
        respond::text(200, format!("{lines}{probe} check passed\n"))
    } else {
        respond::text(200, "ok".to_owned())
    }
}
