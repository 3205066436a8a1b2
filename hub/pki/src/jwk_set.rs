//! The keys of somebody else who signs tokens (JWKS, RFC 7517), and whether a token is theirs.
//!
//! Guarantees:
//! - a token is taken by the algorithm of a key, and what the token says has to be that
//!   (`a_token_is_verified_by_the_key_that_it_names`).

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ring::signature::{
    ECDSA_P256_SHA256_FIXED, ECDSA_P384_SHA384_FIXED, RSA_PKCS1_2048_8192_SHA256,
    RSA_PKCS1_2048_8192_SHA384, RSA_PKCS1_2048_8192_SHA512, RsaParameters, RsaPublicKeyComponents,
    UnparsedPublicKey, VerificationAlgorithm,
};
use serde::Deserialize;

/// The algorithms of signatures that are known here, as tokens call them.
const ALGORITHMS: [&str; 5] = ["RS256", "RS384", "RS512", "ES256", "ES384"];

/// Largest token that is looked at.
const TOKEN_BYTES_MAX: usize = 64 << 10;

/// Public keys of one issuer.
#[derive(Clone, Debug, Default)]
pub struct JwkSet(Vec<NamedKey>);

#[derive(Clone, Debug)]
struct NamedKey {
    id: String,
    key: PublicKey,
}

#[derive(Clone, Debug)]
enum PublicKey {
    Rsa { n: Vec<u8>, e: Vec<u8> },
    P256(Vec<u8>),
    P384(Vec<u8>),
}

#[derive(Deserialize)]
struct Set {
    keys: Vec<serde_json::Value>,
}

#[derive(Deserialize)]
struct Shown {
    kty: String,
    #[serde(default)]
    kid: String,
    #[serde(default, rename = "use")]
    usage: String,
    #[serde(default)]
    crv: String,
    #[serde(default)]
    n: String,
    #[serde(default)]
    e: String,
    #[serde(default)]
    x: String,
    #[serde(default)]
    y: String,
}

#[derive(Deserialize)]
struct Header {
    alg: String,
    #[serde(default)]
    kid: String,
    /// Extensions that whoever verifies it has to understand (RFC 7515, 4.1.11).
    crit: Option<serde_json::Value>,
}

impl JwkSet {
    /// Reads one. Keys of a kind that is not known here are left out.
    #[must_use]
    pub fn read(text: &[u8]) -> Option<Self> {
        let set: Set = serde_json::from_slice(text).ok()?;
        let shown = set.keys.into_iter().filter_map(|key| serde_json::from_value(key).ok());
        Some(Self(shown.filter_map(NamedKey::of).collect()))
    }

    /// Whether a signature of this algorithm may be verified.
    #[must_use]
    pub fn knows(algorithm: &str) -> bool {
        ALGORITHMS.contains(&algorithm)
    }

    /// Whether there is a key of this name.
    #[must_use]
    pub fn has(&self, id: &str) -> bool {
        self.0.iter().any(|named| named.id == id)
    }

    /// The claims of a token, when one of these keys has signed it: the one that it names, or any where it names none. One
    /// with extensions that have to be understood says what nobody here can tell.
    #[must_use]
    pub fn claims(&self, token: &ForeignToken<'_>) -> Option<Vec<u8>> {
        let Header { alg, kid, crit } = &token.header;
        if crit.is_some() {
            return None;
        }
        let mut named = self.0.iter().filter(|named| kid.is_empty() || named.id == *kid);
        let signed = token.signed.as_bytes();
        let is_theirs = named.any(|named| named.key.verify(alg, signed, &token.signature));
        is_theirs.then(|| token.claims.clone())
    }
}

impl NamedKey {
    fn of(shown: Shown) -> Option<Self> {
        if !matches!(&*shown.usage, "" | "sig") {
            return None;
        }
        let bytes = |text: &str| URL_SAFE_NO_PAD.decode(text).ok();
        let point = |length: usize| {
            let (x, y) = (bytes(&shown.x)?, bytes(&shown.y)?);
            (x.len() == length && y.len() == length).then(|| [&[4], &*x, &*y].concat())
        };
        let key = match (&*shown.kty, &*shown.crv) {
            ("RSA", _) => PublicKey::Rsa { n: bytes(&shown.n)?, e: bytes(&shown.e)? },
            ("EC", "P-256") => PublicKey::P256(point(32)?),
            ("EC", "P-384") => PublicKey::P384(point(48)?),
            _ => return None,
        };
        Some(Self { id: shown.kid, key })
    }
}

impl PublicKey {
    fn verify(&self, algorithm: &str, signed: &[u8], signature: &[u8]) -> bool {
        let of_curve = |algorithm: &'static dyn VerificationAlgorithm, point: &[u8]| {
            UnparsedPublicKey::new(algorithm, point).verify(signed, signature).is_ok()
        };
        match (self, algorithm) {
            (Self::Rsa { n, e }, algorithm) => {
                let parameters: &RsaParameters = match algorithm {
                    "RS256" => &RSA_PKCS1_2048_8192_SHA256,
                    "RS384" => &RSA_PKCS1_2048_8192_SHA384,
                    "RS512" => &RSA_PKCS1_2048_8192_SHA512,
                    _ => return false,
                };
                RsaPublicKeyComponents { n, e }.verify(parameters, signed, signature).is_ok()
            }
            (Self::P256(point), "ES256") => of_curve(&ECDSA_P256_SHA256_FIXED, point),
            (Self::P384(point), "ES384") => of_curve(&ECDSA_P384_SHA384_FIXED, point),
            (Self::P256(_) | Self::P384(_), _) => false,
        }
    }
}

/// A token of somebody else, of which nothing is proven.
pub struct ForeignToken<'a> {
    header: Header,
    signed: &'a str,
    claims: Vec<u8>,
    signature: Vec<u8>,
}

impl<'a> ForeignToken<'a> {
    /// A token in three parts; `None` for anything else.
    #[must_use]
    pub fn read(token: &'a str) -> Option<Self> {
        if TOKEN_BYTES_MAX < token.len() {
            return None;
        }
        let (signed, signature) = token.rsplit_once('.')?;
        let (header, claims) = signed.split_once('.').filter(|(_, rest)| !rest.contains('.'))?;
        let [header, claims, signature] =
            [header, claims, signature].map(|part| URL_SAFE_NO_PAD.decode(part).ok());
        let header = serde_json::from_slice(&header?).ok()?;
        Some(Self { header, signed, claims: claims?, signature: signature? })
    }

    /// The algorithm that it says it is signed by.
    #[must_use]
    pub fn algorithm(&self) -> &str {
        &self.header.alg
    }

    /// The key that it says has signed it; empty where it says none.
    #[must_use]
    pub fn key(&self) -> &str {
        &self.header.kid
    }

    /// What it says, which anybody may have written: good for finding out whom to ask.
    #[must_use]
    pub fn unproven_claims(&self) -> &[u8] {
        &self.claims
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::token_key::{TokenKey, jwk};

    /// Of a key that is thrown away: RS256, {"iss":"https://issuer.example","sub":"ada"}.
    const TOKEN: &str = "eyJhbGciOiJSUzI1NiIsImtpZCI6InIxIn0.eyJpc3MiOiJodHRwczovL2lzc3Vlci5leGFtcGxlIiwic3ViIjoiYWRhIn0.Go3kiDNHKWgrnBcHbdGNAJYs5j4BrKeum1T_Y77lXWwPcoAE1GswZmpX9tJfBs11fPTPwqtkQbJQnj6ZA2f6WXK1wGz76DZkeVQXV3SEeER9nA7WUsTWp208L2I3WUiyFLIXzp0y87aLBTUHueoMgsEmgxGkXRkF8Gk2TQqgtePQrItJNIC4LTGe3NrEKKxqugm035tXLgAYBg78gYYSwkPQUdNy-lmpq1nZcmhmk-_ALWi0tSjUMaANY-FY_WGwRYvAM43FmqR-YFMjB9U0MVuB44nd_dYgG1ZIysZye9omhQ6gCxXRg0fyLD2wNHHO1JXzM8XTByQQjr01sPeb5g";
    const MODULUS: &str = "5z6hFAao4uvoEfY9_jM0dq38zddwhRnb9dzsrABxuTeExdt5Wg7kA_L1Y_K0yIIaMgkjHNXs9VaVcPCr7uQzIRSU2YBlKToNMiOdSnFrKfrXVkWWwz4ZVTybLwvQx_vrHPYMqBF_jXJYsJvhlGZ3AhicFwIf9w9DMhs_wLiVDdmbKdBIMlLNZmmxWJBbz-PrhpTXXUNRoIQL5CjmNKteCTfFHG6wVZNEg4MSA53lOcmEtagw9k2v0dA6yEjlQqtodeEUpzfyX2GnuiQ9JRtSYbyu0Z4llMtzbH7IepKWhh4y7KSO6xEKWGTHzaMFdVYFaO3TZpggnLUgQIVvO2Harw";

    fn set(keys: &[serde_json::Value]) -> JwkSet {
        JwkSet::read(serde_json::json!({"keys": keys}).to_string().as_bytes()).unwrap()
    }

    fn rsa(id: &str) -> serde_json::Value {
        serde_json::json!({"kty": "RSA", "kid": id, "n": MODULUS, "e": "AQAB", "use": "sig"})
    }

    #[test]
    fn a_token_is_verified_by_the_key_that_it_names() {
        let own = TokenKey::read(&TokenKey::generate().unwrap()).unwrap();
        let elliptic = serde_json::json!(jwk(own.id(), own.public()).unwrap());
        let both = set(&[rsa("r1"), elliptic]);
        let token = ForeignToken::read(TOKEN).unwrap();
        assert_eq!(token.key(), "r1");
        let claims = br#"{"iss":"https://issuer.example","sub":"ada"}"#;
        assert_eq!(both.claims(&token).unwrap(), claims);
        assert_eq!(set(&[rsa("r2")]).claims(&token), None, "another key is named");
        let mine = own.sign(b"{}").unwrap();
        assert_eq!(both.claims(&ForeignToken::read(&mine).unwrap()).unwrap(), b"{}");
        // The right signature of another algorithm, and the other key's name.
        for (alg, kid) in [("RS256", own.id()), ("ES384", own.id()), ("ES256", "r1"), ("none", "")]
        {
            let header = format!(r#"{{"alg":"{alg}","kid":"{kid}"}}"#);
            let rest = mine.split_once('.').unwrap().1;
            let forged = format!("{}.{rest}", URL_SAFE_NO_PAD.encode(header));
            assert_eq!(both.claims(&ForeignToken::read(&forged).unwrap()), None, "{alg} {kid}");
        }
        let cut = &TOKEN[..TOKEN.len() - 4];
        assert_eq!(ForeignToken::read(cut).and_then(|token| both.claims(&token)), None);
        assert!(both.has("r1") && !both.has("r2"));
    }

    #[test]
    fn a_token_with_extensions_that_have_to_be_understood_is_refused() {
        let own = TokenKey::read(&TokenKey::generate().unwrap()).unwrap();
        let mine = set(&[serde_json::json!(jwk(own.id(), own.public()).unwrap())]);
        let claims = |more: &str| {
            let header = format!(r#"{{"alg":"ES256","kid":"{}"{more}}}"#, own.id());
            let token = own.sign_under(header.as_bytes(), b"{}").unwrap();
            mine.claims(&ForeignToken::read(&token).unwrap())
        };
        assert_eq!(claims("").as_deref(), Some(&b"{}"[..]));
        assert_eq!(claims(r#","typ":"JWT""#).as_deref(), Some(&b"{}"[..]), "others may be left");
        assert_eq!(claims(r#","crit":["exp2"],"exp2":1"#), None);
        assert_eq!(claims(r#","crit":["b64"],"b64":false"#), None);
        assert_eq!(claims(r#","crit":[]"#), None, "nobody may write that");
    }

    #[test]
    fn keys_that_nobody_knows_are_left_out() {
        let odd = serde_json::json!({"kty": "oct", "k": "AAAA"});
        let sealing = serde_json::json!({"kty": "RSA", "n": MODULUS, "e": "AQAB", "use": "enc"});
        assert_eq!(set(&[odd, sealing, serde_json::json!(7), rsa("r1")]).0.len(), 1);
        assert!(JwkSet::read(b"[]").is_none());
    }
}
