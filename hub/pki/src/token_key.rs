//! Keys that sign tokens of service accounts, and the form of such a token: JWS in three parts (RFC 7515, 7519), ES256
//! alone (RFC 7518).
//!
//! It is ring's signature and a few lines. The libraries for it bring arithmetic and ASN.1 of their own, and a choice of
//! algorithms that nobody here wants: what a token says of its algorithm decides nothing.
//!
//! Guarantees:
//! - a token is its key's, and no bit of it can be changed (`a_token_is_its_keys_and_every_bit_of_it_counts`);
//! - no other algorithm is taken, whatever a token says (`what_a_token_says_of_its_algorithm_decides_nothing`).

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ring::digest::{SHA256, digest};
use ring::rand::SystemRandom;
use ring::signature::{
    ECDSA_P256_SHA256_FIXED, ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair as _,
    UnparsedPublicKey,
};
use serde::{Deserialize, Serialize};

/// The only algorithm there is.
pub const TOKEN_ALGORITHM: &str = "ES256";
/// What comes before an uncompressed point in the DER form of a P-256 key (RFC 5480).
const P256_KEY_PREFIX: [u8; 26] = [
    0x30, 0x59, 0x30, 0x13, 0x06, 0x07, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x02, 0x01, 0x06, 0x08, 0x2a,
    0x86, 0x48, 0xce, 0x3d, 0x03, 0x01, 0x07, 0x03, 0x42, 0x00,
];
/// Largest token that is looked at: headers of requests are no larger.
const TOKEN_BYTES_MAX: usize = 64 << 10;

/// A key cannot be made or read.
#[derive(Debug, thiserror::Error)]
#[error("the key of tokens {0}")]
pub struct TokenKeyError(&'static str);

/// A key that signs.
pub struct TokenKey {
    pair: EcdsaKeyPair,
    id: String,
}

/// A public key as JWKS show it (RFC 7517).
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Jwk {
    #[serde(rename = "use")]
    usage: &'static str,
    kty: &'static str,
    kid: String,
    crv: &'static str,
    alg: &'static str,
    x: String,
    y: String,
}

#[derive(Deserialize, Serialize)]
struct Header {
    alg: String,
    #[serde(default)]
    kid: String,
}

impl TokenKey {
    /// A new key, as it is kept (PKCS #8).
    ///
    /// # Errors
    /// When the system gives no random bytes.
    pub fn generate() -> Result<Vec<u8>, TokenKeyError> {
        let made =
            EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &SystemRandom::new());
        made.map(|der| der.as_ref().to_vec()).map_err(|_| TokenKeyError("cannot be made"))
    }

    /// A key that was kept.
    ///
    /// # Errors
    /// When it is none.
    pub fn read(pkcs8: &[u8]) -> Result<Self, TokenKeyError> {
        let random = SystemRandom::new();
        let pair = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, pkcs8, &random)
            .map_err(|_| TokenKeyError("is damaged"))?;
        let mut der = P256_KEY_PREFIX.to_vec();
        der.extend_from_slice(pair.public_key().as_ref());
        let id = URL_SAFE_NO_PAD.encode(digest(&SHA256, &der));
        Ok(Self { pair, id })
    }

    /// What tokens call it: the hash of its public half, as at kube-apiserver.
    #[must_use]
    pub fn id(&self) -> &str {
        &self.id
    }

    /// By which what it signs is verified.
    #[must_use]
    pub fn public(&self) -> &[u8] {
        self.pair.public_key().as_ref()
    }

    /// The token with these claims, in JSON.
    ///
    /// # Errors
    /// When the system gives no random bytes.
    pub fn sign(&self, claims: &[u8]) -> Result<String, TokenKeyError> {
        let header = Header { alg: TOKEN_ALGORITHM.to_owned(), kid: self.id.clone() };
        let header = serde_json::to_vec(&header).map_err(|_| TokenKeyError("has no header"))?;
        self.sign_under(&header, claims)
    }

    /// The same, under this header.
    pub(crate) fn sign_under(&self, header: &[u8], claims: &[u8]) -> Result<String, TokenKeyError> {
        let mut token =
            format!("{}.{}", URL_SAFE_NO_PAD.encode(header), URL_SAFE_NO_PAD.encode(claims));
        let signature = self.pair.sign(&SystemRandom::new(), token.as_bytes());
        let signature = signature.map_err(|_| TokenKeyError("cannot sign"))?;
        token.push('.');
        token.push_str(&URL_SAFE_NO_PAD.encode(signature));
        Ok(token)
    }
}

/// The public key of this id as JWKS show it; `None` for what is none.
#[must_use]
pub fn jwk(id: &str, public: &[u8]) -> Option<Jwk> {
    let (&4, point) = public.split_first()? else { return None };
    let (x, y) = point.split_at_checked(32).filter(|(_, y)| y.len() == 32)?;
    let [x, y] = [x, y].map(|part| URL_SAFE_NO_PAD.encode(part));
    let (usage, kty, crv) = ("sig", "EC", "P-256");
    Some(Jwk { usage, kty, kid: id.to_owned(), crv, alg: TOKEN_ALGORITHM, x, y })
}

/// A token that somebody shows, of which nothing is proven yet.
#[derive(Debug)]
pub struct ShownToken<'a> {
    signed: &'a str,
    key: String,
    claims: Vec<u8>,
    signature: Vec<u8>,
}

impl<'a> ShownToken<'a> {
    /// A token in three parts, for the one algorithm; `None` for anything else.
    #[must_use]
    pub fn read(token: &'a str) -> Option<Self> {
        if TOKEN_BYTES_MAX < token.len() {
            return None;
        }
        let (signed, signature) = token.rsplit_once('.')?;
        let (header, claims) = signed.split_once('.').filter(|(_, rest)| !rest.contains('.'))?;
        let [header, claims, signature] =
            [header, claims, signature].map(|part| URL_SAFE_NO_PAD.decode(part).ok());
        let header: Header = serde_json::from_slice(&header?).ok()?;
        let is_known = header.alg == TOKEN_ALGORITHM;
        let (key, claims, signature) = (header.kid, claims?, signature?);
        is_known.then_some(Self { signed, key, claims, signature })
    }

    /// The key that it says has signed it.
    #[must_use]
    pub fn key(&self) -> &str {
        &self.key
    }

    /// What it says, when this key has signed it.
    #[must_use]
    pub fn claims(self, public: &[u8]) -> Option<Vec<u8>> {
        let key = UnparsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, public);
        key.verify(self.signed.as_bytes(), &self.signature).ok()?;
        Some(self.claims)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key() -> TokenKey {
        TokenKey::read(&TokenKey::generate().unwrap()).unwrap()
    }

    fn claims(token: &str, key: &TokenKey) -> Option<Vec<u8>> {
        ShownToken::read(token)?.claims(key.public())
    }

    #[test]
    fn a_token_is_its_keys_and_every_bit_of_it_counts() {
        let (own, other) = (key(), key());
        assert_ne!(own.id(), other.id());
        let token = own.sign(br#"{"sub":"a"}"#).unwrap();
        assert_eq!(ShownToken::read(&token).unwrap().key(), own.id());
        assert_eq!(claims(&token, &own).unwrap(), br#"{"sub":"a"}"#);
        assert_eq!(claims(&token, &other), None);
        for at in 0..token.len() {
            let mut changed = token.clone().into_bytes();
            changed[at] = if changed[at] == b'A' { b'B' } else { b'A' };
            let changed = String::from_utf8(changed).unwrap();
            assert_eq!(claims(&changed, &own), None, "{at}");
        }
        for cut in ["", "a.b", "a.b.c", "..", &token[..token.len() - 1], &format!("{token}.x")] {
            assert_eq!(claims(cut, &own), None, "{cut}");
        }
    }

    #[test]
    fn what_a_token_says_of_its_algorithm_decides_nothing() {
        let own = key();
        let token = own.sign(b"{}").unwrap();
        let rest = token.split_once('.').unwrap().1;
        for alg in ["none", "HS256", "es256", "ES384", ""] {
            let header =
                URL_SAFE_NO_PAD.encode(format!(r#"{{"alg":"{alg}","kid":"{}"}}"#, own.id()));
            assert!(ShownToken::read(&format!("{header}.{rest}")).is_none(), "{alg}");
            assert!(ShownToken::read(&format!("{header}.e30.")).is_none(), "{alg}");
        }
    }

    #[test]
    fn a_key_is_kept_and_shown() {
        let kept = TokenKey::generate().unwrap();
        let (first, again) = (TokenKey::read(&kept).unwrap(), TokenKey::read(&kept).unwrap());
        assert_eq!(claims(&first.sign(b"{}").unwrap(), &again).unwrap(), b"{}");
        assert!(TokenKey::read(&kept[1..]).is_err());
        let shown = jwk(first.id(), first.public()).unwrap();
        assert_eq!((shown.x.len(), shown.y.len(), &*shown.kid), (43, 43, first.id()));
        assert_eq!(jwk("x", b"short"), None);
    }
}
