//! Who may watch: the path token, checked offline, and remembered.
//!
//! A film is some thousand requests with one token, and a signature check costs more than all the rest of a
//! memory hit. Answers are remembered under a digest of the token, so that the table holds nothing that
//! could be used as one. Its time is checked on every request. Accepted and refused tokens have
//! separate tables: whoever tries made-up tokens cannot push out those of paying viewers.

use std::sync::Arc;

use control_api::{Claims, SessionId, TokenError, TokenVerifier};
use media::{Digest, TitleId};
use moka::sync::Cache;

use crate::config::FrontConfig;
use crate::metrics::{Judged, Metrics};

/// The verifier and its memory.
pub(crate) struct Authoriser {
    verifier: TokenVerifier,
    accepted: Cache<Digest, Arc<Claims>>,
    refused: Cache<Digest, TokenError>,
    metrics: Arc<Metrics>,
}

impl Authoriser {
    pub(crate) fn new(verifier: TokenVerifier, config: &FrontConfig, metrics: Arc<Metrics>) -> Self {
        let refused = Cache::builder()
            .max_capacity(config.refused_token_entries)
            .time_to_live(config.refused_token_ttl);
        Self { verifier, accepted: Cache::new(config.token_cache_entries), refused: refused.build(), metrics }
    }

    /// Whether `token` opens `title` at `now` (Unix seconds).
    pub(crate) fn check(&self, token: &str, title: &TitleId, now: u64) -> Result<Arc<Claims>, TokenError> {
        let claims = self.claims(token, now)?;
        claims.require(title)?;
        Ok(claims)
    }

    /// Whose token this says it is. It may be made up; who is served is decided by [`Authoriser::check`].
    pub(crate) fn claimed_session(&self, token: &str) -> Option<SessionId> {
        let remembered = self.accepted.get(&Digest::of(token.as_bytes()));
        remembered.map(|claims| claims.session.clone()).or_else(|| TokenVerifier::claimed_session(token))
    }

    fn claims(&self, token: &str, now: u64) -> Result<Arc<Claims>, TokenError> {
        let name = Digest::of(token.as_bytes());
        if let Some(claims) = self.accepted.get(&name) {
            self.metrics.tokens.count(Judged::Remembered);
            return claims.check_time(now).map(|()| claims).inspect_err(|_| self.accepted.invalidate(&name));
        }
        if let Some(error) = self.refused.get(&name) {
            self.metrics.tokens.count(Judged::RefusedAgain);
            return Err(error);
        }
        match self.verifier.verify(token, now) {
            Ok(claims) => {
                self.metrics.tokens.count(Judged::Verified);
                let claims = Arc::new(claims);
                self.accepted.insert(name, Arc::clone(&claims));
                Ok(claims)
            }
            Err(error) => {
                self.metrics.tokens.count(Judged::Refused);
                // What is early now may be right in a second.
                if error != TokenError::NotYetValid {
                    self.refused.insert(name, error);
                }
                Err(error)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use aws_lc_rs::rand::SystemRandom;
    use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair};
    use control_api::TokenSigner;
    use prometheus::Registry;

    use super::*;

    #[expect(clippy::disallowed_methods, reason = "a test key; nothing depends on its value")]
    fn signer() -> TokenSigner {
        let key = EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &SystemRandom::new());
        TokenSigner::from_pkcs8("k1".parse().expect("valid"), key.expect("made").as_ref()).expect("valid")
    }

    fn token(signer: &TokenSigner, issued: u64, expires: u64) -> String {
        let claims = Claims {
            issuer: "weir".to_owned(),
            session: "s1".parse().expect("valid"),
            title: "bbb".parse().expect("valid"),
            issued,
            expires,
        };
        signer.sign(&claims).expect("signs")
    }

    #[test]
    fn answers_are_remembered_but_time_and_title_are_always_asked() {
        let (signer, registry) = (signer(), Registry::new());
        let metrics = Metrics::register(&registry).expect("registers");
        let verifier = TokenVerifier::new(vec![signer.public().expect("valid")]);
        let authoriser = Authoriser::new(verifier, &FrontConfig::default(), metrics);
        let (bbb, other): (TitleId, TitleId) = ("bbb".parse().expect("ok"), "other".parse().expect("ok"));
        let good = token(&signer, 1000, 2000);
        let check = |token: &str, title: &TitleId, now: u64| {
            authoriser.check(token, title, now).map(|claims| claims.session.to_string())
        };
        assert_eq!(check(&good, &bbb, 1500).as_deref(), Ok("s1"));
        assert_eq!(check(&good, &bbb, 1600).as_deref(), Ok("s1"));
        assert_eq!(authoriser.accepted.iter().count(), 1);
        assert_eq!(check(&good, &other, 1600), Err(TokenError::WrongTitle));
        assert_eq!(check(&good, &bbb, 5000), Err(TokenError::Expired));
        assert_eq!(check(&good, &bbb, 5001), Err(TokenError::Expired));

        let early = token(&signer, 3000, 4000);
        assert_eq!(check(&early, &bbb, 1000), Err(TokenError::NotYetValid));
        assert_eq!(check(&early, &bbb, 3500).as_deref(), Ok("s1"), "not remembered as refused");

        let stranger = token(&self::signer(), 1000, 2000);
        assert_eq!(check(&stranger, &bbb, 1500), Err(TokenError::BadSignature));
        assert_eq!(check(&stranger, &bbb, 1500), Err(TokenError::BadSignature));
        for bad in ["", "x", "%", &"A".repeat(600), &good[1..]] {
            assert!(check(bad, &bbb, 1500).is_err(), "{bad:?}");
        }
        let text = prometheus::TextEncoder::new().encode_to_string(&registry.gather()).expect("encodes");
        assert!(text.contains("weir_front_token_checks_total{judged=\"refused-again\"} 1"), "{text}");
    }
}
