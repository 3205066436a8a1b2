//! Callers by a token of a file (`--token-auth-file`): lines of `token,user,uid,"group1,group2"`.
//!
//! Guarantees:
//! - a file that cannot be read as that is told with its line, and never a part of it taken
//!   (`a_file_is_read_as_kube_apiserver_reads_it`).

use std::collections::HashMap;
use std::sync::Arc;

use async_trait::async_trait;
use sha2::{Digest as _, Sha256};

use super::bearer::{AskedToken, Known, NotTaken, TokenAuthenticator};
use super::user::{AUTHENTICATED, User};

/// Why a file of tokens is none.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("line {line} of the token file {why}")]
pub struct TokenFileError {
    line: usize,
    why: String,
}

/// Knows those whom a file names. They are the same in every cluster.
#[derive(Clone, Debug, Default)]
pub struct TokenFile(Arc<HashMap<[u8; 32], Arc<User>>>);

impl TokenFile {
    /// Reads its text. Of a token that stands there twice, the last line counts.
    ///
    /// # Errors
    /// When a line names no user.
    pub fn read(text: &str) -> Result<Self, TokenFileError> {
        let mut users = HashMap::new();
        for (number, line) in text.lines().enumerate() {
            let wrong = |why: String| TokenFileError { line: number + 1, why };
            if line.trim().is_empty() {
                continue;
            }
            let fields =
                fields(line).ok_or_else(|| wrong("has a quote that does not end".into()))?;
            let [token, name, uid, rest @ ..] = fields.as_slice() else {
                return Err(wrong(format!(
                    "must have at least 3 columns (token, user name, user uid), found {}",
                    fields.len()
                )));
            };
            // As a line that was commented out: it lets nobody in.
            if token.is_empty() {
                continue;
            }
            let groups = rest.first().map(String::as_str).unwrap_or_default().split(',');
            let groups = groups.map(str::trim).filter(|group| !group.is_empty());
            let groups = groups.chain([AUTHENTICATED]).map(str::to_owned).collect();
            let user = User { name: name.clone(), uid: uid.clone(), groups, ..User::default() };
            users.insert(Sha256::digest(token).into(), Arc::new(user));
        }
        Ok(Self(Arc::new(users)))
    }
}

/// The fields of a line (RFC 4180); `None` where a quote does not end.
fn fields(line: &str) -> Option<Vec<String>> {
    let mut all = vec![String::new()];
    let (mut quoted, mut letters) = (false, line.chars().peekable());
    while let Some(letter) = letters.next() {
        let field = all.last_mut()?;
        match letter {
            '"' if quoted && letters.next_if_eq(&'"').is_some() => field.push('"'),
            '"' if quoted => quoted = false,
            '"' if field.is_empty() => quoted = true,
            ',' if !quoted => all.push(String::new()),
            other => field.push(other),
        }
    }
    (!quoted).then_some(all)
}

#[async_trait]
impl TokenAuthenticator for TokenFile {
    async fn token(&self, asked: AskedToken<'_>) -> Result<Option<Known>, NotTaken> {
        // By its hash, so that how long it takes tells nothing of those that are there.
        let digest: [u8; 32] = Sha256::digest(asked.token).into();
        Ok(self.0.get(&digest).and_then(|user| asked.known(user.clone(), None)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn user(file: &str, token: &str) -> Option<(String, String, Vec<String>)> {
        let file = TokenFile::read(file).unwrap();
        let digest: [u8; 32] = Sha256::digest(token).into();
        let user = file.0.get(&digest)?;
        Some((user.name.clone(), user.uid.clone(), user.groups.clone()))
    }

    #[test]
    fn a_file_is_read_as_kube_apiserver_reads_it() {
        let file = "a,jane,1,\"x,y\"\n\nb,bob,2\n,nobody,3\nc,\"o\"\"neil\",4,z\na,jane,5\n";
        let groups = |all: &[&str]| all.iter().map(|one| (*one).to_owned()).collect::<Vec<_>>();
        let known = |token| user(file, token).unwrap();
        assert_eq!(known("b"), ("bob".into(), "2".into(), groups(&[AUTHENTICATED])));
        assert_eq!(known("c"), ("o\"neil".into(), "4".into(), groups(&["z", AUTHENTICATED])));
        assert_eq!(known("a").1, "5", "the last line counts");
        assert_eq!(user(file, ""), None);
        let two = user("a,jane,1,\"x,y\"", "a").unwrap();
        assert_eq!(two.2, groups(&["x", "y", AUTHENTICATED]));
        for (file, why) in [
            (
                "a,jane",
                "line 1 of the token file must have at least 3 columns (token, user name, user uid), found 2",
            ),
            ("a,b,c\na,\"b,c", "line 2 of the token file has a quote that does not end"),
        ] {
            assert_eq!(TokenFile::read(file).unwrap_err().to_string(), why);
        }
    }
}
