//! Label and field selectors: parsed once, matched many times against headers.
//!
//! Guarantees:
//! - a text has up to [`TEXT_BYTES_MAX`] bytes, [`REQUIREMENTS_MAX`] requirements and [`VALUES_MAX`] values, and what is
//!   beyond is refused (`what_is_beyond_the_bounds_is_refused`);
//! - any text is answered (`hostile_texts_are_answered_and_never_panic`).

mod field;
mod label;
mod lexer;
mod parse;
mod requirement;

pub use field::FieldSelector;
pub use label::LabelSelector;
pub use requirement::{Operator, Requirement};

/// Longest selector in a query.
pub const TEXT_BYTES_MAX: usize = 64 * 1024;
/// Most requirements in one selector.
pub const REQUIREMENTS_MAX: usize = 1024;
/// Most values in one selector: each takes many times its own length for as long as a watch lasts.
pub const VALUES_MAX: usize = 4096;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gvk::Gvk;
    use crate::kind::{Kind, Strategy};
    use crate::quantity::Quantity;

    struct Plain;

    impl Strategy for Plain {}

    fn pods() -> Kind {
        Kind::new(Gvk::new("", "v1", "Pod"), "pods", Plain).fields(["status.phase"])
    }

    /// Texts over an alphabet of signs, the same in every run.
    fn texts() -> impl Iterator<Item = String> {
        const SIGNS: &[u8] = b"ab/.-=!,() <>\\0159einKMim+\xc3\xa9";
        let mut state = 1_u64;
        let mut next = move || {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            usize::try_from(state >> 33).unwrap()
        };
        (0..20_000).map(move |_| {
            let length = next() % 24;
            let bytes: Vec<u8> = (0..length).map(|_| SIGNS[next() % SIGNS.len()]).collect();
            String::from_utf8_lossy(&bytes).into_owned()
        })
    }

    #[test]
    fn hostile_texts_are_answered_and_never_panic() {
        let pods = &pods();
        let mut read = 0;
        for text in texts() {
            if let Ok(selector) = LabelSelector::parse(&text) {
                read += 1;
                let again = LabelSelector::parse(&selector.to_string()).unwrap();
                assert_eq!(again.to_string(), selector.to_string(), "{text:?}");
            }
            let _ = FieldSelector::parse(&text, pods);
            if let Ok(quantity) = text.parse::<Quantity>() {
                let again: Quantity = quantity.to_string().parse().unwrap();
                assert_eq!(again, quantity, "{text:?}");
            }
        }
        assert!(read > 100);
    }

    #[test]
    fn what_is_beyond_the_bounds_is_refused() {
        let pods = &pods();
        let list = |one: &str, times: usize| vec![one; times].join(",");
        assert!(LabelSelector::parse(&list("a", REQUIREMENTS_MAX)).is_ok());
        assert!(LabelSelector::parse(&list("a", REQUIREMENTS_MAX + 1)).is_err());
        let values = |times: usize| format!("a in ({})", list("x", times));
        assert!(LabelSelector::parse(&values(TEXT_BYTES_MAX / 2 - 10)).is_ok());
        assert!(LabelSelector::parse(&values(TEXT_BYTES_MAX / 2)).is_err());

        let different = |times: usize| {
            let all: Vec<_> = (0..times).map(|at| format!("v{at}")).collect();
            format!("a in ({}),b in ({})", all[..times / 2].join(","), all[times / 2..].join(","))
        };
        assert!(LabelSelector::parse(&different(4_096)).is_ok());
        assert!(LabelSelector::parse(&different(4_097)).is_err());

        let name = "metadata.name=x";
        assert!(FieldSelector::parse(&list(name, REQUIREMENTS_MAX), pods).is_ok());
        assert!(FieldSelector::parse(&list(name, REQUIREMENTS_MAX + 1), pods).is_err());
        let long = |bytes: usize| format!("{name}{}", "x".repeat(bytes - name.len()));
        assert!(FieldSelector::parse(&long(TEXT_BYTES_MAX), pods).is_ok());
        assert!(FieldSelector::parse(&long(TEXT_BYTES_MAX + 1), pods).is_err());
    }
}
