//! Signing a token by hand, to see what a gateway says to old, foreign or fresh ones.

use control_api::keys::TokenPrivateKey;
use control_api::{Claims, SessionId};

use crate::arguments::Mint;
use crate::error::Error;
use crate::{config, entropy};

/// The token for these wishes at this time (Unix seconds).
pub(crate) fn mint(wish: Mint, now: u64) -> Result<String, Error> {
    let text = config::read(&wish.token_key)?;
    let key = TokenPrivateKey::parse(&text).map_err(|error| Error::Key(wish.token_key.clone(), error))?;
    let signer = key.signer().map_err(|error| Error::Key(wish.token_key.clone(), error))?;
    let issued = now.saturating_sub(wish.age.as_secs());
    let claims = Claims {
        issuer: wish.issuer,
        session: wish.session.map_or_else(fresh_session, Ok)?,
        title: wish.title,
        issued,
        expires: issued.saturating_add(wish.life.as_secs()),
    };
    Ok(signer.sign(&claims)?)
}

fn fresh_session() -> Result<SessionId, Error> {
    let name = entropy::unique()?;
    name.parse().map_err(|error| Error::Entropy(std::io::Error::other(error)))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use control_api::{TokenError, TokenVerifier};

    use super::*;

    #[test]
    fn a_minted_token_says_what_was_asked() {
        let folder = tempfile::tempdir().expect("a folder");
        let file = folder.path().join("token.key");
        let key = TokenPrivateKey::generate("k1".parse().expect("valid")).expect("a key");
        std::fs::write(&file, key.to_line()).expect("written");
        let verifier = TokenVerifier::new(vec![key.public().expect("a key")]);
        let wish = |age: u64, life: u64| Mint {
            token_key: file.clone(),
            title: "bbb".parse().expect("valid"),
            session: None,
            issuer: "weir".into(),
            age: Duration::from_secs(age),
            life: Duration::from_secs(life),
        };
        let fresh = mint(wish(0, 60), 1_000_000).expect("signed");
        let claims = verifier.verify(&fresh, 1_000_000).expect("valid now");
        assert_eq!((claims.title.as_str(), claims.issued, claims.expires), ("bbb", 1_000_000, 1_000_060));
        let old = mint(wish(7200, 60), 1_000_000).expect("signed");
        assert_eq!(verifier.verify(&old, 1_000_000), Err(TokenError::Expired));
        assert!(mint(wish(0, 0), 1_000_000).is_err(), "a token without a life");
    }
}
