//! Reads Rust as far as the checks need it: words and marks, without comments, texts and what is for tests alone.
//!
//! Guarantees:
//! - what stands in comments, texts and characters is no code (`comments_and_texts_are_no_code`);
//! - what is for tests alone is left out, item by item (`what_is_for_tests_alone_is_left_out`).

/// One token: a word, `::`, or a mark.
pub type Token<'a> = &'a str;

/// The tokens of a file.
pub fn tokens(text: &str) -> Vec<Token<'_>> {
    let mut out = Vec::new();
    let mut rest = text;
    while let Some(first) = rest.chars().next() {
        let length = if rest.starts_with("//") {
            rest.find('\n').unwrap_or(rest.len())
        } else if rest.starts_with("/*") {
            comment(rest)
        } else if let Some(length) = literal(rest) {
            length
        } else if first.is_alphanumeric() || first == '_' {
            let end = rest.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(rest.len());
            out.push(&rest[..end]);
            end
        } else if rest.starts_with("::") {
            out.push(&rest[..2]);
            2
        } else {
            if !first.is_whitespace() {
                out.push(&rest[..first.len_utf8()]);
            }
            first.len_utf8()
        };
        rest = &rest[length..];
    }
    out
}

/// How long a comment is that may hold others.
fn comment(text: &str) -> usize {
    let (mut depth, mut at) = (0_u32, 0);
    while at < text.len() {
        if text[at..].starts_with("/*") {
            (depth, at) = (depth + 1, at + 2);
        } else if text[at..].starts_with("*/") {
            (depth, at) = (depth - 1, at + 2);
            if depth == 0 {
                return at;
            }
        } else {
            at += text[at..].chars().next().map_or(1, char::len_utf8);
        }
    }
    text.len()
}

/// How long the text, character or lifetime is that begins here.
fn literal(text: &str) -> Option<usize> {
    let bare = text.strip_prefix('b').unwrap_or(text);
    let prefix = text.len() - bare.len();
    if let Some(raw) = bare.strip_prefix('r') {
        let hashes = raw.len() - raw.trim_start_matches('#').len();
        let inner = raw[hashes..].strip_prefix('"')?;
        let end = format!("\"{}", "#".repeat(hashes));
        let length = inner.find(&end).map_or(inner.len(), |at| at + end.len());
        return Some(prefix + 1 + hashes + 1 + length);
    }
    if let Some(inner) = bare.strip_prefix('"') {
        return Some(prefix + 1 + closed(inner, '"'));
    }
    let inner = bare.strip_prefix('\'')?;
    let second = inner.chars().nth(1);
    if inner.starts_with('\\') || second == Some('\'') {
        return Some(prefix + 1 + closed(inner, '\''));
    }
    // A lifetime: its mark alone.
    Some(1)
}

/// How long it is until the mark that closes, itself counted.
fn closed(text: &str, mark: char) -> usize {
    let mut escaped = false;
    for (at, c) in text.char_indices() {
        match c {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            _ if c == mark => return at + c.len_utf8(),
            _ => {}
        }
    }
    text.len()
}

/// Shipped code, and the modules that are for tests alone.
pub struct Shipped<'a> {
    pub tokens: Vec<Token<'a>>,
    pub test_modules: Vec<&'a str>,
}

/// Takes out what is for tests alone.
pub fn shipped<'a>(tokens: &[Token<'a>]) -> Shipped<'a> {
    let mut out = Shipped { tokens: Vec::new(), test_modules: Vec::new() };
    let mut rest = tokens;
    while let Some(first) = rest.first() {
        let Some(after) = test_attribute(rest) else {
            out.tokens.push(first);
            rest = &rest[1..];
            continue;
        };
        let end = item(after);
        if let Some(at) = after[..end].iter().position(|token| *token == "mod")
            && after[..end].last() == Some(&";")
        {
            out.test_modules.extend(after.get(at + 1));
        }
        rest = &after[end..];
    }
    out
}

/// What follows `#[cfg(test)]`, when it stands here.
fn test_attribute<'b, 'a>(tokens: &'b [Token<'a>]) -> Option<&'b [Token<'a>]> {
    let inner = tokens.strip_prefix(&["#", "[", "cfg", "("])?;
    let end = inner.iter().position(|token| *token == "]")?;
    let condition = &inner[..end];
    let is_test = condition.contains(&"test") && !condition.contains(&"not");
    is_test.then(|| &inner[end + 1..])
}

/// How many tokens the item has that begins here.
fn item(tokens: &[Token<'_>]) -> usize {
    let mut depth = 0_i32;
    for (at, token) in tokens.iter().enumerate() {
        match *token {
            "(" | "[" | "{" => depth += 1,
            ")" | "]" => depth -= 1,
            "}" => {
                depth -= 1;
                if depth == 0 {
                    return at + 1;
                }
            }
            ";" if depth == 0 => return at + 1,
            _ => {}
        }
    }
    tokens.len()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn comments_and_texts_are_no_code() {
        let code = "a::b // c::d\n/* e /* f */ g */ h(\"i \\\" j\", r#\"k \" l\"#, b'm', '\\'', '\"') n<'o>";
        let found = tokens(code);
        let words = ["a", "::", "b", "h", "(", ",", ",", ",", ",", ")", "n", "<", "o", ">"];
        assert_eq!(found, words);
    }

    #[test]
    fn what_is_for_tests_alone_is_left_out() {
        let code = "use a;\n#[cfg(test)]\nuse b::{c, d};\n#[cfg(test)]\nmod far;\n#[cfg(not(test))]\nfn e() {}\n\
                    #[cfg(test)]\nmod tests {\n fn f() { g(); }\n}\nfn h() {}\n";
        let all = tokens(code);
        let found = shipped(&all);
        assert_eq!(found.test_modules, ["far"]);
        for gone in ["b", "far", "f", "g"] {
            assert!(!found.tokens.contains(&gone), "{gone}");
        }
        for kept in ["a", "e", "h"] {
            assert!(found.tokens.contains(&kept), "{kept}");
        }
    }
}
