//! Where the compilations of a module stand: what `hub push` waits for.

use freewheel_link::digest::Digest;
use freewheel_link::profile::Profile;
use http::{Response, StatusCode, header};
use serde_json::{Value, json};

use super::refusal::{Refusal, refuse};
use super::{RegistryBody, answer, set};
use crate::modules::{Modules, Progress};

impl Modules {
    /// One entry per engine profile that a spoke has reported.
    pub(super) fn compilations(&self, digest: &str) -> Result<Response<RegistryBody>, Refusal> {
        let component = digest.parse::<Digest>().ok();
        let here = component.filter(|component| self.inner.blobs.size(component).is_some());
        let Some(component) = here else {
            let text = format!("there is no module {digest}");
            return Err(refuse(StatusCode::NOT_FOUND, "BLOB_UNKNOWN", text));
        };
        self.prioritize(&component);
        let profiles: Vec<Value> =
            self.progress(&component).into_iter().map(progress_json).collect();
        let mut response = answer(StatusCode::OK, json!({"profiles": profiles}).to_string().into());
        set(&mut response, header::CONTENT_TYPE, "application/json");
        Ok(response)
    }
}

fn progress_json((profile, progress): (Profile, Progress)) -> Value {
    let (state, why) = match progress {
        Progress::Waiting => ("waiting", None),
        Progress::Compiling => ("compiling", None),
        Progress::Compiled => ("compiled", None),
        Progress::Failed(why) => ("failed", Some(why)),
    };
    json!({"profile": profile.key(), "state": state, "why": why})
}
