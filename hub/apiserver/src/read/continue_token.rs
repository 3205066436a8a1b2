//! The opaque `continue` token of a chunked list: where to go on, in which revision.

use base64::Engine as _;
use base64::alphabet::URL_SAFE;
use base64::engine::general_purpose::{GeneralPurpose, URL_SAFE_NO_PAD};
use base64::engine::{DecodePaddingMode, GeneralPurposeConfig};
use freewheel_hub_schema::error::ApiError;
use freewheel_hub_schema::object::{Key, Resource};
use freewheel_link::names::ClusterName;
use serde::{Deserialize, Serialize};

const VERSION: &str = "freewheel/1";

/// Go's decoder overlooks bits that are left over; the text of the error depends on it.
const LENIENT: GeneralPurpose = GeneralPurpose::new(
    &URL_SAFE,
    GeneralPurposeConfig::new()
        .with_decode_allow_trailing_bits(true)
        .with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

/// Where a list goes on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ContinueToken {
    #[serde(rename = "v")]
    version: String,
    /// The revision of the whole list; 0: whatever is newest, as after an expiry.
    #[serde(rename = "rv")]
    pub revision: u64,
    #[serde(rename = "ns")]
    namespace: String,
    #[serde(rename = "n")]
    name: String,
}

impl ContinueToken {
    /// After this key, at this revision.
    #[must_use]
    pub fn after(key: &Key, revision: u64) -> Self {
        Self {
            version: VERSION.to_owned(),
            revision,
            namespace: key.namespace.to_string(),
            name: key.name.to_string(),
        }
    }

    /// The same place in whatever is newest.
    #[must_use]
    pub fn in_newest(mut self) -> Self {
        self.revision = 0;
        self
    }

    /// The key to go on after.
    #[must_use]
    pub fn key(&self, resource: &Resource, cluster: &ClusterName) -> Key {
        Key::new(resource, cluster, &self.namespace, &self.name)
    }

    /// As text for `metadata.continue`.
    #[must_use]
    pub fn encode(&self) -> String {
        // A struct of strings and a number always serialises.
        URL_SAFE_NO_PAD.encode(serde_json::to_vec(self).unwrap_or_default())
    }

    /// From `?continue=`.
    ///
    /// # Errors
    /// 400 for anything that is not ours.
    pub fn decode(text: &str) -> Result<Self, ApiError> {
        let bytes = LENIENT.decode(text).map_err(|_| invalid("illegal base64 data"))?;
        let token: Self = match serde_json::from_slice(&bytes) {
            Ok(token) => token,
            Err(error) => {
                let why = match bytes.first().filter(|byte| **byte != b'{') {
                    Some(byte) => {
                        format!(
                            "invalid character '{}' looking for beginning of value",
                            char::from(*byte)
                        )
                    }
                    None => error.to_string(),
                };
                return Err(invalid(&why));
            }
        };
        if token.version != VERSION {
            return Err(invalid("server does not recognize this encoded version"));
        }
        Ok(token)
    }
}

fn invalid(why: &str) -> ApiError {
    ApiError::bad_request(format!("invalid continue token: continue key is not valid: {why}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_round_trip() {
        let pods = Resource::new("", "pods");
        let key = Key::new(&pods, &ClusterName::root(), "default", "web-1");
        let token = ContinueToken::after(&key, 42);
        let back = ContinueToken::decode(&token.encode()).unwrap();
        assert_eq!(back, token);
        assert_eq!(back.key(&pods, &ClusterName::root()), key);
        assert_eq!(back.in_newest().revision, 0);
    }

    #[test]
    fn foreign_tokens_are_refused_in_kubes_words() {
        let error = ContinueToken::decode("zzz").unwrap_err();
        assert_eq!(
            error.message,
            "invalid continue token: continue key is not valid: invalid character 'Ï' looking for beginning of value"
        );
        assert_eq!(ContinueToken::decode("***").unwrap_err().code, 400);
    }
}
