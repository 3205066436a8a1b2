//! Letters that nobody guesses, of which tokens and passwords are made.

use ring::rand::{SecureRandom as _, SystemRandom};

/// Letters of a bootstrap token.
const ALPHABET: &[u8; 36] = b"abcdefghijklmnopqrstuvwxyz0123456789";

/// The system gives no random bytes.
#[derive(Debug, thiserror::Error)]
#[error("the system's randomness failed")]
pub struct NoRandomness;

/// So many random letters, without bias: bytes that would wrap the alphabet are drawn again.
///
/// # Errors
/// When the system gives none.
pub fn letters(count: usize) -> Result<String, NoRandomness> {
    let random = SystemRandom::new();
    let mut out = String::with_capacity(count);
    while out.len() < count {
        let mut byte = [0];
        random.fill(&mut byte).map_err(|_| NoRandomness)?;
        if usize::from(byte[0]) < ALPHABET.len() * 7 {
            out.push(char::from(ALPHABET[usize::from(byte[0]) % ALPHABET.len()]));
        }
    }
    Ok(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_have_kubernetes_form() {
        let secret = letters(16).unwrap();
        assert_eq!(secret.len(), 16);
        assert!(secret.bytes().all(|b| ALPHABET.contains(&b)));
        assert_ne!(secret, letters(16).unwrap());
    }
}
