//! What somebody said who panicked.

use std::any::Any;

use freewheel_hub_schema::truncated_text::{REPEATED_BYTES_MAX, shortened};

/// The words of a panic; those of a log have an end.
pub(super) fn words(payload: &(dyn Any + Send)) -> String {
    let text = payload.downcast_ref::<&str>().copied();
    let text = text.or_else(|| payload.downcast_ref::<String>().map(String::as_str));
    shortened(text.unwrap_or("without a word").to_owned(), REPEATED_BYTES_MAX)
}

#[cfg(test)]
mod tests {
    use std::panic::{catch_unwind, panic_any};

    use super::words;

    #[test]
    fn its_words_are_told_whatever_they_are_kept_in() {
        let told = |panics: fn()| words(&*catch_unwind(panics).unwrap_err());
        assert_eq!(told(|| panic!("a bug")), "a bug");
        assert_eq!(told(|| panic!("{} bugs", 2)), "2 bugs");
        assert_eq!(told(|| panic_any(7)), "without a word");
        assert!(told(|| panic!("{}", "x".repeat(1 << 20))).len() < 64 << 10);
    }
}
