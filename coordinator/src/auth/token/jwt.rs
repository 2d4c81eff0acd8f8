//! The JWT of a login (RFC 7519), following RFC 8725.

use std::fmt;

use buddo_shared::model::id::AccountId;
use buddo_shared::model::secret::Secret;
use jiff::{SignedDuration, Timestamp};
use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey, Header, Validation, decode, encode};
use serde::{Deserialize, Serialize};
use uuid::Uuid;
use zeroize::Zeroizing;

/// How long a login lasts.
pub const LIFETIME: SignedDuration = SignedDuration::from_hours(30 * 24);

/// One algorithm for one key (RFC 8725, 3.1); no other is ever tried.
const ALGORITHM: Algorithm = Algorithm::HS256;
/// Explicit type (RFC 8725, 3.11): no other JWT of ours is accepted as a login.
const TYPE: &str = "login+jwt";
/// Who the token is for (RFC 8725, 3.9).
const AUDIENCE: &str = "buddo-account-api";
/// Longer tokens are rejected unread.
const MAX_BYTES: usize = 4096;

/// Signs and checks login tokens.
#[derive(Clone)]
pub struct Jwt {
    signing: EncodingKey,
    checking: DecodingKey,
    issuer: String,
}

/// The content of a login token.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Login {
    pub account: AccountId,
    /// The account's count of "log out everywhere" when the token was made: tokens with an older
    /// count are void.
    pub epoch: i64,
    /// The login itself, which can be ended on its own.
    pub session: Uuid,
}

#[derive(Serialize, Deserialize)]
struct Claims {
    iss: String,
    aud: String,
    sub: AccountId,
    iat: i64,
    exp: i64,
    epoch: i64,
    // The claim name is OpenID Connect's.
    sid: Uuid,
}

/// Why a token was not made or not accepted.
#[derive(Debug, thiserror::Error)]
pub enum JwtError {
    #[error("signing a login token")]
    Sign(#[source] jsonwebtoken::errors::Error),
    /// Not a login token of ours: form, algorithm, type, issuer, audience or signature.
    #[error("the login token is not valid")]
    Invalid,
    /// It was valid once.
    #[error("the login token has expired")]
    Expired,
}

impl Jwt {
    /// Uses a key for tokens of `issuer`, the coordinator's public URL.
    pub fn new(key: &Zeroizing<[u8; 32]>, issuer: impl Into<String>) -> Self {
        Self {
            signing: EncodingKey::from_secret(key.as_slice()),
            checking: DecodingKey::from_secret(key.as_slice()),
            issuer: issuer.into(),
        }
    }

    /// A token for a login at `now`.
    pub fn issue(&self, login: Login, now: Timestamp) -> Result<Secret, JwtError> {
        let header = Header { typ: Some(TYPE.to_owned()), ..Header::new(ALGORITHM) };
        let claims = Claims {
            iss: self.issuer.clone(),
            aud: AUDIENCE.to_owned(),
            sub: login.account,
            iat: now.as_second(),
            exp: now.as_second().saturating_add(LIFETIME.as_secs()),
            epoch: login.epoch,
            sid: login.session,
        };
        encode(&header, &claims, &self.signing).map(Secret::new).map_err(JwtError::Sign)
    }

    /// Verifies a token.
    pub fn check(&self, token: &str, now: Timestamp) -> Result<Login, JwtError> {
        if token.len() > MAX_BYTES {
            return Err(JwtError::Invalid);
        }
        let mut rules = Validation::new(ALGORITHM);
        rules.set_issuer(&[&self.issuer]);
        rules.set_audience(&[AUDIENCE]);
        rules.set_required_spec_claims(&["iss", "aud", "sub", "exp"]);
        // The library would use the system clock; ours is injected.
        rules.validate_exp = false;
        let token =
            decode::<Claims>(token, &self.checking, &rules).map_err(|_| JwtError::Invalid)?;
        if token.header.typ.as_deref() != Some(TYPE) {
            return Err(JwtError::Invalid);
        }
        if now.as_second() >= token.claims.exp {
            return Err(JwtError::Expired);
        }
        let Claims { sub, epoch, sid, .. } = token.claims;
        Ok(Login { account: sub, epoch, session: sid })
    }
}

impl fmt::Debug for Jwt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Jwt").field("issuer", &self.issuer).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Timestamp = Timestamp::constant(1_780_000_000, 0);
    const KEY: [u8; 32] = [7; 32];

    fn jwt(issuer: &str) -> Jwt {
        Jwt::new(&Zeroizing::new(KEY), issuer)
    }

    fn login() -> Login {
        let account = AccountId::new(Uuid::from_u128(1));
        Login { account, epoch: 3, session: Uuid::from_u128(2) }
    }

    fn forged(header: &Header, claims: &serde_json::Value, key: &[u8]) -> String {
        encode(header, claims, &EncodingKey::from_secret(key)).unwrap()
    }

    fn claims() -> serde_json::Value {
        serde_json::json!({
            "iss": "https://a.example", "aud": AUDIENCE, "sub": login().account,
            "iat": NOW.as_second(), "exp": NOW.as_second() + 60,
            "epoch": 3, "sid": Uuid::from_u128(2),
        })
    }

    fn header() -> Header {
        Header { typ: Some(TYPE.to_owned()), ..Header::new(ALGORITHM) }
    }

    #[test]
    fn a_login_lasts_30_days_and_no_longer() {
        let token = jwt("https://a.example").issue(login(), NOW).unwrap();
        let check = |at| jwt("https://a.example").check(token.expose(), at);
        assert_eq!(check(NOW).unwrap(), login());
        let end = NOW + LIFETIME;
        assert_eq!(check(end - SignedDuration::from_secs(1)).unwrap(), login());
        assert!(matches!(check(end), Err(JwtError::Expired)));
    }

    #[test]
    fn rfc8725_3_1_only_one_algorithm_is_accepted() {
        let good = forged(&header(), &claims(), &KEY);
        assert_eq!(jwt("https://a.example").check(&good, NOW).unwrap(), login());
        let other = Header { typ: Some(TYPE.to_owned()), ..Header::new(Algorithm::HS512) };
        let strong = forged(&other, &claims(), &KEY);
        assert!(jwt("https://a.example").check(&strong, NOW).is_err());
        // {"alg":"none","typ":"login+jwt"} with an empty signature.
        let body = good.split('.').nth(1).unwrap();
        let none = format!("eyJhbGciOiJub25lIiwidHlwIjoibG9naW4rand0In0.{body}.");
        assert!(jwt("https://a.example").check(&none, NOW).is_err());
    }

    #[test]
    fn rfc8725_3_8_and_3_9_issuer_and_audience_are_checked() {
        for (member, value) in [("iss", "https://b.example"), ("aud", "another")] {
            let mut claims = claims();
            claims[member] = value.into();
            assert!(
                jwt("https://a.example").check(&forged(&header(), &claims, &KEY), NOW).is_err()
            );
            claims.as_object_mut().unwrap().remove(member);
            assert!(
                jwt("https://a.example").check(&forged(&header(), &claims, &KEY), NOW).is_err()
            );
        }
    }

    #[test]
    fn rfc8725_3_11_another_jwt_type_is_refused_as_a_login() {
        for typ in [Some("JWT".to_owned()), Some("at+jwt".to_owned()), None] {
            let header = Header { typ, ..Header::new(ALGORITHM) };
            assert!(
                jwt("https://a.example").check(&forged(&header, &claims(), &KEY), NOW).is_err()
            );
        }
    }

    #[test]
    fn a_token_signed_with_another_key_is_refused() {
        let token = forged(&header(), &claims(), &[8; 32]);
        assert!(matches!(jwt("https://a.example").check(&token, NOW), Err(JwtError::Invalid)));
    }

    #[test]
    fn debug_shows_no_key() {
        assert!(!format!("{:?}", jwt("i")).contains("07"));
    }
}
