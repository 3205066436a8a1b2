//! Which representation a client wants: wire format and shape.
//!
//! ```text
//! Accept: application/json;as=Table;v=v1;g=meta.k8s.io,application/json
//!         └── wire ──┘ └────── shape ─────────────┘
//! ```
//!
//! The first clause of the highest quality that we can serve wins, as in kube-apiserver.

use freewheel_hub_metrics::Format;
use freewheel_hub_schema::error::ApiError;

/// JSON.
pub const JSON: &str = "application/json";
/// YAML.
pub const YAML: &str = "application/yaml";
/// Kubernetes' protobuf envelope.
pub const PROTOBUF: &str = "application/vnd.kubernetes.protobuf";

/// How objects travel.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Wire {
    /// JSON
    Json,
    /// YAML
    Yaml,
    /// Kubernetes' protobuf envelope
    Protobuf,
}

/// What of the objects travels.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Shape {
    /// The object itself.
    Object,
    /// Server-side columns, in meta.k8s.io/v1 or v1beta1.
    Table {
        /// v1beta1 was asked for.
        beta: bool,
    },
    /// metadata only.
    Metadata,
}

/// What to send.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Wanted {
    /// Format.
    pub wire: Wire,
    /// Shape.
    pub shape: Shape,
}

/// Plain JSON objects.
pub const PLAIN: Wanted = Wanted { wire: Wire::Json, shape: Shape::Object };

impl Wanted {
    /// The Content-Type of an answer.
    #[must_use]
    pub const fn content_type(self) -> &'static str {
        match self.wire {
            Wire::Json => JSON,
            Wire::Yaml => YAML,
            Wire::Protobuf => PROTOBUF,
        }
    }

    /// The Content-Type of a watch.
    #[must_use]
    pub const fn watch_content_type(self) -> &'static str {
        match self.wire {
            Wire::Json | Wire::Yaml => JSON,
            Wire::Protobuf => "application/vnd.kubernetes.protobuf;stream=watch",
        }
    }
}

/// One clause of an Accept header.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Clause<'a> {
    pub(crate) media: &'a str,
    quality: u32,
    convert: Option<&'a str>,
    pub(crate) group: &'a str,
    pub(crate) version: &'a str,
    /// The version of the media type itself.
    format: &'a str,
}

impl<'a> Clause<'a> {
    /// The kind named by `as=`.
    pub(crate) fn kind(&self) -> Option<&'a str> {
        self.convert
    }

    fn parse(text: &'a str) -> Self {
        let mut parts = text.split(';').map(str::trim);
        let media = parts.next().unwrap_or_default();
        let mut clause =
            Self { media, quality: 1000, convert: None, group: "", version: "", format: "" };
        for part in parts {
            match part.split_once('=') {
                Some(("q", q)) => {
                    let q: f64 = q.trim().parse().unwrap_or(1.0);
                    #[expect(
                        clippy::cast_possible_truncation,
                        clippy::cast_sign_loss,
                        reason = "clamped to 0..=1000"
                    )]
                    let quality = (q * 1000.0).clamp(0.0, 1000.0) as u32;
                    clause.quality = quality;
                }
                Some(("as", kind)) => clause.convert = Some(kind.trim()),
                Some(("g", group)) => clause.group = group.trim(),
                Some(("v", version)) => clause.version = version.trim(),
                Some(("version", format)) => clause.format = format.trim(),
                _ => {}
            }
        }
        clause
    }

    fn wires(&self) -> &'static [Wire] {
        match self.media {
            JSON | "*/*" | "application/*" | "" => &[Wire::Json],
            YAML => &[Wire::Yaml],
            PROTOBUF => &[Wire::Protobuf],
            _ => &[],
        }
    }

    fn shape(&self) -> Option<Shape> {
        let meta = self.group == "meta.k8s.io" && matches!(self.version, "v1" | "v1beta1");
        match self.convert {
            None => Some(Shape::Object),
            Some("Table") if meta => Some(Shape::Table { beta: self.version == "v1beta1" }),
            Some("PartialObjectMetadata" | "PartialObjectMetadataList") if meta => {
                Some(Shape::Metadata)
            }
            Some(_) => None,
        }
    }
}

/// How figures are to be written: the first format of the highest quality, Prometheus' text for all who ask for
/// neither.
pub(crate) fn metrics(accept: &str) -> Format {
    let format = |clause: Clause<'_>| match clause.media {
        _ if clause.quality == 0 => None,
        "application/openmetrics-text" if matches!(clause.format, "" | "1.0.0") => {
            Some(Format::OpenMetrics)
        }
        "text/plain" | "text/*" | "*/*" => Some(Format::Prometheus),
        _ => None,
    };
    clauses(accept).into_iter().find_map(format).unwrap_or(Format::Prometheus)
}

/// The clauses of an Accept header, best first.
pub(crate) fn clauses(accept: &str) -> Vec<Clause<'_>> {
    let mut clauses: Vec<Clause<'_>> =
        accept.split(',').take(32).map(|text| Clause::parse(text.trim())).collect();
    clauses.sort_by_key(|clause| std::cmp::Reverse(clause.quality));
    clauses
}

/// What to send for this Accept header; `can` says whether the resource has that representation.
///
/// # Errors
/// 406 when nothing that is acceptable can be served.
pub fn negotiate(accept: Option<&str>, can: impl Fn(Wanted) -> bool) -> Result<Wanted, ApiError> {
    let accept = match accept {
        None | Some("" | "*/*" | JSON) => return Ok(PLAIN),
        Some(accept) => accept,
    };
    for clause in clauses(accept) {
        let Some(shape) = clause.shape().filter(|_| 0 < clause.quality) else { continue };
        for wire in clause.wires() {
            let wanted = Wanted { wire: *wire, shape };
            if can(wanted) {
                return Ok(wanted);
            }
        }
    }
    Err(not_acceptable(can(Wanted { wire: Wire::Protobuf, shape: Shape::Object })))
}

/// The format of a Status for this Accept header; JSON when nothing else is clear.
#[must_use]
pub fn status_wire(accept: Option<&str>) -> Wire {
    negotiate(accept, |_| true).map_or(Wire::Json, |wanted| wanted.wire)
}

fn not_acceptable(protobuf: bool) -> ApiError {
    let mut list = format!("{JSON}, {YAML}");
    if protobuf {
        list = format!("{list}, {PROTOBUF}");
    }
    ApiError::new(
        406,
        "NotAcceptable",
        format!("only the following media types are accepted: {list}"),
    )
}

/// The format of a request's body.
///
/// # Errors
/// 415 for what we do not read (CBOR among them).
pub fn body_wire(content_type: Option<&str>) -> Result<Wire, ApiError> {
    let media = content_type.unwrap_or(JSON).split(';').next().unwrap_or_default().trim();
    match media {
        // curl's default for -d, and what tools send that never set one.
        "" | JSON | "application/x-www-form-urlencoded" => Ok(Wire::Json),
        YAML | "application/x-yaml" | "text/yaml" => Ok(Wire::Yaml),
        PROTOBUF => Ok(Wire::Protobuf),
        other => Err(ApiError::new(
            415,
            "UnsupportedMediaType",
            format!(
                "the body of the request was in an unknown format ({other}) - accepted media types include: {JSON}, {YAML}, {PROTOBUF}"
            ),
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(accept: &str, wire: Wire, shape: Shape) {
        let all = |_: Wanted| true;
        assert_eq!(negotiate(Some(accept), all).unwrap(), Wanted { wire, shape }, "{accept}");
    }

    #[test]
    fn the_first_clause_that_can_be_served_wins() {
        check("application/json", Wire::Json, Shape::Object);
        check("*/*", Wire::Json, Shape::Object);
        check("text/html, */*;q=0.1", Wire::Json, Shape::Object);
        check("application/yaml", Wire::Yaml, Shape::Object);
        check("application/json;q=0.5,application/yaml", Wire::Yaml, Shape::Object);
        check(
            "application/json;as=Table;v=v1;g=meta.k8s.io,application/json",
            Wire::Json,
            Shape::Table { beta: false },
        );
        check(
            "application/vnd.kubernetes.protobuf;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1,application/json",
            Wire::Protobuf,
            Shape::Metadata,
        );
        check("application/cbor,application/json", Wire::Json, Shape::Object);
    }

    #[test]
    fn what_cannot_be_served_is_passed_over() {
        let json_only = |wanted: Wanted| wanted.wire == Wire::Json;
        let accept = Some("application/vnd.kubernetes.protobuf,application/json");
        assert_eq!(negotiate(accept, json_only).unwrap(), PLAIN);
        let error = negotiate(Some("application/cbor"), json_only).unwrap_err();
        assert_eq!((error.code, error.reason), (406, "NotAcceptable"));
    }

    #[test]
    fn figures_are_written_as_their_reader_prefers() {
        let prometheus_3 = "application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.6,\
                            application/openmetrics-text;version=0.0.1;q=0.5,\
                            text/plain;version=1.0.0;escaping=allow-utf-8;q=0.4,\
                            text/plain;version=0.0.4;q=0.3,*/*;q=0.2";
        assert_eq!(metrics(prometheus_3), Format::OpenMetrics);
        for text in [
            "",
            "*/*",
            "text/plain",
            "application/json",
            "application/openmetrics-text;version=2.0.0,text/plain;q=0.1",
            "application/openmetrics-text;q=0.1,text/plain;version=0.0.4;q=0.5",
            "application/openmetrics-text;q=0",
        ] {
            assert_eq!(metrics(text), Format::Prometheus, "{text}");
        }
    }

    #[test]
    fn bodies_in_cbor_are_refused() {
        assert_eq!(body_wire(Some("application/json; charset=utf-8")).unwrap(), Wire::Json);
        assert_eq!(body_wire(Some("application/cbor")).unwrap_err().code, 415);
    }
}
