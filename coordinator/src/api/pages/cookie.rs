//! Cookies of the pages, and the CSRF token bound to one.

use aws_lc_rs::digest::{SHA256, digest};
use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD as BASE64;
use buddo_shared::model::secret::Secret;
use cookie::time::Duration;
use cookie::{Cookie, SameSite};
use http::HeaderMap;
use http::header::{COOKIE, HeaderValue};
use subtle::ConstantTimeEq as _;

use crate::auth::token::{PlainToken, PlainTokenKind, device};
use crate::crypto::random::Random;
use crate::domain::identity::Email;
use crate::state::AppState;

/// A logged-in browser. The `__Host-` prefix keeps apps on subdomains from setting it.
pub(in crate::api) const SESSION: &str = "__Host-buddo_session";
/// A browser logged in for the API. The published pages name this cookie.
pub(in crate::api) const LOGIN: &str = "session";
/// A browser that was shown the login form.
pub(super) const FORM: &str = "__Host-buddo_form";

/// A browser that logged in before: strangers' guesses do not delay it.
pub(in crate::api) const DEVICE: &str = "__Host-buddo_device";

/// The token in cookie `name`, if it is one of ours.
pub(super) fn read(headers: &HeaderMap, name: &str) -> Option<PlainToken> {
    read_as(headers, name, PlainTokenKind::Session)
}

/// The token in cookie `name`, if it is one of this kind.
pub(in crate::api) fn read_as(
    headers: &HeaderMap,
    name: &str,
    kind: PlainTokenKind,
) -> Option<PlainToken> {
    PlainToken::parse(kind, text(headers, name)?)
}

/// The text of cookie `name`.
pub(in crate::api) fn text<'h>(headers: &'h HeaderMap, name: &str) -> Option<&'h str> {
    let values = headers.get_all(COOKIE).iter().filter_map(|value| value.to_str().ok());
    let mut cookies = values.flat_map(Cookie::split_parse).flatten();
    cookies.find(|cookie| cookie.name() == name)?.value_raw()
}

/// The header that marks a browser that has just logged in as known.
pub(in crate::api) fn known(state: &AppState, email: &Email) -> HeaderValue {
    let text = state.auth.devices.issue(email, state.clock.now(), &*state.random);
    header(DEVICE, &text, device::LIFETIME.as_secs())
}

/// A new token and the header that sets it for `seconds`.
pub(super) fn set(name: &str, seconds: i64, random: &dyn Random) -> (PlainToken, HeaderValue) {
    set_as(name, PlainTokenKind::Session, seconds, random)
}

/// A new token of a kind and the header that sets it for `seconds`.
pub(super) fn set_as(
    name: &str,
    kind: PlainTokenKind,
    seconds: i64,
    random: &dyn Random,
) -> (PlainToken, HeaderValue) {
    let token = PlainToken::generate(kind, random);
    let text = token.clone().into_secret();
    let value = header(name, text.expose(), seconds);
    (token, value)
}

/// The header that removes a cookie.
pub(super) fn clear(name: &str) -> HeaderValue {
    header(name, "", 0)
}

fn header(name: &str, value: &str, seconds: i64) -> HeaderValue {
    let cookie = Cookie::build((name, value))
        .path("/")
        .max_age(Duration::seconds(seconds))
        .secure(true)
        .http_only(true)
        .same_site(SameSite::Lax);
    let mut value =
        HeaderValue::try_from(cookie.to_string()).unwrap_or(HeaderValue::from_static(""));
    value.set_sensitive(true);
    value
}

/// The CSRF token of forms for the browser with `cookie`: another site can make the browser send
/// the cookie, but cannot know this token.
pub(super) fn csrf(cookie: &PlainToken) -> String {
    let cookie: Secret = cookie.clone().into_secret();
    let text = format!("form {}", cookie.expose());
    BASE64.encode(digest(&SHA256, text.as_bytes()))
}

/// Whether a form came from the page that this browser was shown.
pub(super) fn is_ours(cookie: Option<&PlainToken>, offered: &str) -> bool {
    cookie.is_some_and(|cookie| csrf(cookie).as_bytes().ct_eq(offered.as_bytes()).into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::crypto::random::SystemRandom;

    #[test]
    fn a_cookie_round_trips_among_others() {
        let (token, header) = set(SESSION, 60, &SystemRandom);
        let cookie = Cookie::parse(header.to_str().unwrap()).unwrap();
        assert_eq!((cookie.path(), cookie.domain()), (Some("/"), None));
        assert_eq!(cookie.max_age(), Some(Duration::seconds(60)));
        assert_eq!((cookie.secure(), cookie.http_only()), (Some(true), Some(true)));
        assert_eq!(cookie.same_site(), Some(SameSite::Lax));
        let pair = cookie.stripped().to_string();
        let mut headers = HeaderMap::new();
        headers.insert(COOKIE, HeaderValue::try_from(format!("a=b; {pair}; c=d")).unwrap());
        assert_eq!(read(&headers, SESSION).unwrap().hashed(), token.hashed());
        assert!(read(&headers, FORM).is_none());
    }

    #[test]
    fn a_form_token_is_bound_to_one_browser() {
        let (one, _) = set(FORM, 60, &SystemRandom);
        let (other, _) = set(FORM, 60, &SystemRandom);
        assert!(is_ours(Some(&one), &csrf(&one)));
        assert!(!is_ours(Some(&other), &csrf(&one)));
        assert!(!is_ours(None, &csrf(&one)));
        assert!(!is_ours(Some(&one), ""));
    }
}
