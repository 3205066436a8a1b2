//! What of an expression's text is code, and what is only read: texts and comments, of which the parser makes no levels.
//!
//! It follows the language's lexer as long as a text is what that expects; from the first letter on that it does not expect,
//! everything is code: what a lexer makes of the rest is its own.
//!
//! Guarantees:
//! - no bracket that the parser may see is taken for text (`what_the_lexer_may_not_take_for_text_is_code`).

/// A text without its literals and comments, in place of each of which stands a space. From the first doubt on it is as it
/// was.
pub(crate) fn without_literals(text: &str) -> String {
    let mut code = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(letter) = rest.chars().next() {
        let read = match letter {
            '/' if rest.starts_with("//") => Some(rest.find('\n').unwrap_or(rest.len())),
            '"' | '\'' => is_raw(&code).and_then(|is_raw| literal(rest, is_raw)),
            _ => None,
        };
        if let Some(bytes) = read {
            rest = &rest[bytes..];
            code.push(' ');
        } else if let Some(bytes) = token(rest) {
            code.push_str(&rest[..bytes]);
            rest = &rest[bytes..];
        } else {
            code.push_str(rest);
            return code;
        }
    }
    code
}

/// Bytes of the beginning of a text that stands for itself, as the lexer takes it.
fn token(text: &str) -> Option<usize> {
    let pairs = ["&&", "||", "==", "!=", "<=", ">="];
    if pairs.iter().any(|pair| text.starts_with(pair)) {
        return Some(2);
    }
    let plain = |letter: &char| {
        let is_space = matches!(letter, '\t' | ' ' | '\r' | '\n' | '\u{c}');
        letter.is_ascii_alphanumeric() || is_space || "_[](){}.,-!?:+*/%<>".contains(*letter)
    };
    text.chars().next().filter(plain).map(char::len_utf8)
}

/// What the word says that stands right before a quote: whether the text is raw. None where that is another word.
fn is_raw(code: &str) -> Option<bool> {
    let word = code.trim_end_matches(|c: char| c.is_ascii_alphanumeric() || c == '_');
    match &code[word.len()..] {
        "" | "b" | "B" => Some(false),
        "r" | "R" | "br" | "bR" | "Br" | "BR" => Some(true),
        _ => None,
    }
}

/// Bytes of the literal that begins with this quote, where it ends.
fn literal(text: &str, is_raw: bool) -> Option<usize> {
    let quote = text.get(..1)?;
    let long = quote.repeat(3);
    let (end, is_long) =
        if text.starts_with(&long) { (long.as_str(), true) } else { (quote, false) };
    let mut at = end.len();
    loop {
        let rest = text.get(at..)?;
        if rest.starts_with(end) {
            return Some(at + end.len());
        }
        let letter = rest.chars().next()?;
        at += match letter {
            '\n' | '\r' if !is_long => return None,
            '\\' if !is_raw => 1 + escape(rest.get(1..)?)?,
            other => other.len_utf8(),
        };
    }
}

/// Bytes of what stands behind a backslash.
fn escape(text: &str) -> Option<usize> {
    let digits = |from: usize, count: usize, base: u32| {
        let digits = text.get(from..from + count)?;
        digits.chars().all(|digit| digit.is_digit(base)).then_some(from + count)
    };
    match text.chars().next()? {
        'a' | 'b' | 'f' | 'n' | 'r' | 't' | 'v' | '"' | '\'' | '\\' | '?' | '`' => Some(1),
        '0'..='3' => digits(1, 2, 8),
        'x' | 'X' => digits(1, 2, 16),
        'u' => digits(1, 4, 16),
        'U' => digits(1, 8, 16),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_and_comments_are_no_code() {
        for (text, code) in [
            (r#"self in ['a(', "b]"]"#, "self in [ ,  ]"),
            ("a // (((\n+ b", "a  \n+ b"),
            (r"'\'(' + '\u0028('", "  +  "),
            (r"r'\' + br'(' + b'\x28'", "r  + br  + b "),
            ("'''a\n('b'\"(''' == \"\"\"'(\"\"\"", "  ==  "),
            ("'' + \"\"", "  +  "),
            ("a.b && !c || d != e ? [1] : {2: 3}", "a.b && !c || d != e ? [1] : {2: 3}"),
        ] {
            assert_eq!(without_literals(text), code, "{text}");
        }
    }

    #[test]
    fn what_the_lexer_may_not_take_for_text_is_code() {
        for text in [
            "'a\n((('",
            "'(((",
            r"'\q((('",
            r"'\x2((('",
            r"'\4((('",
            "'''((('",
            "xr'((('",
            "1r'((('",
            "in'((('",
            "&'((('",
            "|'((('",
            "='((('",
            "#'((('",
            "`a//b`(((",
            "\\'((('",
            "é'((('",
        ] {
            assert!(without_literals(text).contains("((("), "{text}");
            let behind = format!("{text} + '((((' ");
            assert!(without_literals(&behind).contains("(((("), "{behind}");
        }
    }
}
