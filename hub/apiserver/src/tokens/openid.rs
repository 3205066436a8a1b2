//! What somebody else needs to verify tokens of service accounts (OpenID Connect Discovery 1.0).

use freewheel_hub_pki::TOKEN_ALGORITHM;
use freewheel_link::names::ClusterName;
use http::Response;
use serde::Serialize;
use serde_json::json;

use super::issuer::Issuer;
use crate::body::Body;
use crate::path::OpenId;
use crate::respond;

#[derive(Serialize)]
struct Configuration {
    issuer: String,
    jwks_uri: String,
    response_types_supported: [&'static str; 1],
    subject_types_supported: [&'static str; 1],
    id_token_signing_alg_values_supported: [&'static str; 1],
}

/// One of these documents.
pub(crate) fn openid(issuer: &Issuer, cluster: &ClusterName, what: OpenId) -> Response<Body> {
    match what {
        OpenId::Configuration => configuration(issuer, cluster),
        OpenId::Keys => jwks(issuer, cluster),
    }
}

fn configuration(issuer: &Issuer, cluster: &ClusterName) -> Response<Body> {
    let url = issuer.url(cluster);
    let configuration = Configuration {
        jwks_uri: format!("{url}/openid/v1/jwks"),
        issuer: url,
        response_types_supported: ["id_token"],
        subject_types_supported: ["public"],
        id_token_signing_alg_values_supported: [TOKEN_ALGORITHM],
    };
    let text = serde_json::to_vec(&configuration).unwrap_or_default();
    respond::whole(200, "application/json", text.into())
}

fn jwks(issuer: &Issuer, cluster: &ClusterName) -> Response<Body> {
    let text = json!({"keys": issuer.keys(cluster)}).to_string();
    respond::whole(200, "application/jwk-set+json", text.into())
}
