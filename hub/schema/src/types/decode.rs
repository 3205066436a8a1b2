//! JSON text to canonical values: one pass that builds the value and names every duplicate. Whatever else
//! speaks serde is read alike: keys that are no text become what Go's YAML makes of them.

use std::cell::RefCell;
use std::fmt;

use serde::Deserialize;
use serde::de::{DeserializeSeed, Deserializer, Error as _, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Number, Value};

use super::canonical::{Path, Step, canonicalise, word};
use super::table::find;
use super::typed::Typed;
use crate::error::ApiError;
use crate::gvk::split_api_version;

/// How many JSON objects a body may hold: `{}` is two bytes on the wire and hundreds in memory. What
/// people apply has a few thousand.
const MAX_OBJECTS: usize = 200_000;

/// How many duplicates are named.
const MAX_DUPLICATES: usize = 100;

/// A decoded request body.
#[derive(Clone, Debug, PartialEq)]
pub struct Decoded {
    /// Canonical, with `apiVersion` and `kind` set.
    pub value: Value,
    /// What strict validation refuses ([`strict_error`]) and warning validation says:
    /// `unknown field "spec.foo"`, `duplicate field "spec.x"`.
    pub strict: Vec<String>,
}

/// Decodes a JSON body that must be of the given kind. A body that names no apiVersion or kind is
/// taken to be of it, as kube-apiserver does. Nesting is bounded at 128.
///
/// # Errors
/// 400 when it is no JSON, another kind or version, or a value has the wrong type.
pub fn decode_json<'a>(bytes: &[u8], typed: impl Into<Typed<'a>>) -> Result<Decoded, ApiError> {
    let typed = typed.into();
    let read = parse_json(bytes).map_err(|why| unrecognised(bytes, typed.kind, &why))?;
    decode_value(read, bytes, typed)
}

/// As [`decode_json`] for a body that was read already: the value with the paths of its duplicates.
///
/// # Errors
/// As [`decode_json`].
pub fn decode_value<'a>(
    (mut value, duplicates): (Value, Vec<String>),
    bytes: &[u8],
    typed: impl Into<Typed<'a>>,
) -> Result<Decoded, ApiError> {
    let typed = typed.into();
    let kind = typed.kind;
    let Value::Object(map) = &mut value else {
        let what = word(&value);
        let why = format!("json: cannot unmarshal {what} into Go value of type runtime.TypeMeta");
        return Err(unrecognised(bytes, kind, &why));
    };
    claim(map, typed)?;
    let unknown = canonicalise(&mut value, typed)
        .map_err(|error| cannot_be_handled(kind, &typed.api_version(), kind, &error.message))?;
    let mut strict: Vec<String> =
        unknown.unknown.iter().map(|path| format!("unknown field {path:?}")).collect();
    strict.extend(duplicates.iter().map(|path| format!("duplicate field {path:?}")));
    Ok(Decoded { value, strict })
}

fn unrecognised(bytes: &[u8], kind: &str, why: &str) -> ApiError {
    let start: String = String::from_utf8_lossy(bytes).chars().take(1024).collect();
    ApiError::bad_request(format!(
        "the object provided is unrecognized (must be of type {kind}): couldn't get \
         version/kind; json parse error: {why} ({start})"
    ))
}

/// The answer to a body that strict validation refuses.
#[must_use]
pub fn strict_error(version: &str, kind: &str, strict: &[String]) -> ApiError {
    let why = format!("strict decoding error: {}", strict.join(", "));
    cannot_be_handled(kind, version, kind, &why)
}

fn cannot_be_handled(found: &str, version: &str, kind: &str, why: &str) -> ApiError {
    let version = split_api_version(version).1;
    ApiError::bad_request(format!(
        "{found} in version {version:?} cannot be handled as a {kind}: {why}"
    ))
}

/// Fills in apiVersion and kind, or refuses those of another kind.
fn claim(map: &mut Map<String, Value>, typed: Typed<'_>) -> Result<(), ApiError> {
    let (expected, kind) = (typed.api_version(), typed.kind);
    let text = |key: &str| map.get(key).and_then(Value::as_str).unwrap_or_default().to_owned();
    let (found_version, found_kind) = (text("apiVersion"), text("kind"));
    let other_kind = !found_kind.is_empty() && found_kind != kind;
    let is_meta = typed.facts.is_some_and(|one| one.is_meta());
    let other_version = !is_meta && !found_version.is_empty() && found_version != expected;
    if other_version && !other_kind && typed.form.is_some() {
        return Err(ApiError::bad_request(format!(
            "the API version in the data ({found_version}) does not match the expected API version ({expected})"
        )));
    }
    if other_kind || other_version {
        let found_kind = if found_kind.is_empty() { kind } else { &found_kind };
        let (found_group, bare) = split_api_version(&found_version);
        let why = if find(found_group, bare, found_kind).is_some() {
            let expected = expected.rsplit('/').next().unwrap_or_default();
            format!("converting ({bare}.{found_kind}) to ({expected}.{kind}): unknown conversion")
        } else {
            format!("no kind {found_kind:?} is registered for version {found_version:?}")
        };
        return Err(cannot_be_handled(found_kind, &found_version, kind, &why));
    }
    if found_version.is_empty() {
        map.insert("apiVersion".to_owned(), Value::String(expected));
    }
    if found_kind.is_empty() {
        map.insert("kind".to_owned(), Value::String(kind.to_owned()));
    }
    Ok(())
}

/// Any JSON text, and the paths of the fields that it names twice; the last one counts. Nesting is
/// bounded at 128, objects at 200,000.
///
/// # Errors
/// In Go's words where that is simple.
pub fn parse_json(bytes: &[u8]) -> Result<(Value, Vec<String>), String> {
    let mut reader = serde_json::Deserializer::from_slice(bytes);
    match read_any(&mut reader).and_then(|read| reader.end().map(|()| read)) {
        Ok(read) => Ok(read),
        Err(error) if error.is_eof() => Err("unexpected end of JSON input".to_owned()),
        Err(error) => Err(error.to_string()),
    }
}

/// A value in any format, and the paths of the fields that it names twice. Objects are bounded as in
/// [`parse_json`]; nesting is the reader's to bound.
///
/// # Errors
/// What the reader says.
pub fn read_any<'de, D: Deserializer<'de>>(reader: D) -> Result<(Value, Vec<String>), D::Error> {
    let seen = RefCell::new(Seen::default());
    let value = Seed { path: &Path::ROOT, seen: &seen }.deserialize(reader)?;
    Ok((value, seen.into_inner().duplicates))
}

#[derive(Default)]
struct Seen {
    duplicates: Vec<String>,
    objects: usize,
}

impl Seen {
    fn object<E: serde::de::Error>(&mut self) -> Result<(), E> {
        self.objects += 1;
        if MAX_OBJECTS < self.objects {
            return Err(E::custom(format_args!("more than {MAX_OBJECTS} objects in one body")));
        }
        Ok(())
    }

    fn duplicate(&mut self, path: &Path<'_>) {
        if self.duplicates.len() < MAX_DUPLICATES {
            self.duplicates.push(path.strict());
        }
    }
}

struct Seed<'a> {
    path: &'a Path<'a>,
    seen: &'a RefCell<Seen>,
}

impl<'de> DeserializeSeed<'de> for Seed<'_> {
    type Value = Value;

    fn deserialize<D: Deserializer<'de>>(self, reader: D) -> Result<Value, D::Error> {
        reader.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Seed<'_> {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }

    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(Value::Bool(value))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
        Ok(Value::from(value))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Value, E> {
        Ok(Value::from(value))
    }

    fn visit_f64<E: serde::de::Error>(self, value: f64) -> Result<Value, E> {
        let number = Number::from_f64(value);
        number.map(Value::Number).ok_or_else(|| E::custom("number out of range"))
    }

    fn visit_str<E>(self, value: &str) -> Result<Value, E> {
        Ok(Value::String(value.to_owned()))
    }

    fn visit_string<E>(self, value: String) -> Result<Value, E> {
        Ok(Value::String(value))
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Value, A::Error> {
        let mut out = Vec::new();
        loop {
            let path = self.path.then(Step::Index(out.len()));
            let seed = Seed { path: &path, seen: self.seen };
            match items.next_element_seed(seed)? {
                Some(item) => out.push(item),
                None => return Ok(Value::Array(out)),
            }
        }
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Value, A::Error> {
        self.seen.try_borrow_mut().map_err(A::Error::custom)?.object()?;
        let mut out = Map::new();
        while let Some(Key(key)) = entries.next_key()? {
            let value = {
                let path = self.path.then(Step::Field(&key));
                if out.contains_key(&key) {
                    self.seen.try_borrow_mut().map_err(A::Error::custom)?.duplicate(&path);
                }
                entries.next_value_seed(Seed { path: &path, seen: self.seen })?
            };
            out.insert(key, value);
        }
        Ok(Value::Object(out))
    }
}

/// A key as text: YAML has others, of which Go makes `true` and `80`.
struct Key(String);

impl<'de> Deserialize<'de> for Key {
    fn deserialize<D: Deserializer<'de>>(reader: D) -> Result<Self, D::Error> {
        reader.deserialize_any(KeyVisitor).map(Self)
    }
}

struct KeyVisitor;

impl Visitor<'_> for KeyVisitor {
    type Value = String;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a key that is text, a number or a flag")
    }

    fn visit_bool<E>(self, value: bool) -> Result<String, E> {
        Ok(value.to_string())
    }

    fn visit_i64<E>(self, value: i64) -> Result<String, E> {
        Ok(value.to_string())
    }

    fn visit_u64<E>(self, value: u64) -> Result<String, E> {
        Ok(value.to_string())
    }

    fn visit_f64<E>(self, value: f64) -> Result<String, E> {
        Ok(value.to_string())
    }

    fn visit_str<E>(self, value: &str) -> Result<String, E> {
        Ok(value.to_owned())
    }

    fn visit_string<E>(self, value: String) -> Result<String, E> {
        Ok(value)
    }
}
