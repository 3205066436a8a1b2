//! How much of a long text is told: its beginning, and how long it is.

use std::fmt;

/// Most bytes of a value, and of a path to one, that a mistake repeats: what was sent need not come back as a whole.
pub const REPEATED_BYTES_MAX: usize = 1024;
/// Room for what is said in the place of the rest.
const LEFT_OUT_BYTES_MAX: usize = 32;

/// The beginning of a text, and how long it is.
#[derive(Debug, Default)]
pub struct TruncatedText {
    text: String,
    bytes: usize,
}

impl TruncatedText {
    /// What is told of it.
    #[must_use]
    pub fn end(mut self) -> String {
        if self.text.len() < self.bytes {
            self.text.push_str(&left_out(self.bytes));
        }
        self.text
    }
}

impl fmt::Write for TruncatedText {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        // What comes after a gap would be no beginning.
        if self.text.len() == self.bytes {
            let room = REPEATED_BYTES_MAX - self.text.len();
            self.text.push_str(&text[..text.floor_char_boundary(room)]);
        }
        self.bytes += text.len();
        Ok(())
    }
}

/// The text, or its beginning and how long it is. What was shortened once stays as it is.
#[must_use]
pub fn shortened(mut text: String, most: usize) -> String {
    if most + LEFT_OUT_BYTES_MAX < text.len() {
        let bytes = text.len();
        text.truncate(text.floor_char_boundary(most));
        text.push_str(&left_out(bytes));
    }
    text
}

/// What stands in the place of the rest of a text of so many bytes.
fn left_out(bytes: usize) -> String {
    format!("… ({bytes} bytes)")
}

#[cfg(test)]
mod tests {
    use std::fmt::Write as _;

    use super::*;

    #[test]
    fn what_is_told_in_short_stays_so() {
        let long = "ä".repeat(REPEATED_BYTES_MAX);
        let short = shortened(long.clone(), REPEATED_BYTES_MAX);
        assert!(
            short.len() <= REPEATED_BYTES_MAX + LEFT_OUT_BYTES_MAX
                && short.ends_with("ä… (2048 bytes)")
        );
        assert_eq!(shortened(short.clone(), REPEATED_BYTES_MAX), short);
        let mut told = TruncatedText::default();
        long.chars().try_for_each(|letter| told.write_char(letter)).unwrap();
        assert_eq!(told.end(), short);
        assert_eq!(shortened("abc".to_owned(), 3), "abc");
    }
}
