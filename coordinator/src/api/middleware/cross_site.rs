//! Requests that change something by cookie must come from our own pages (CSRF): a browser sends
//! the cookie no matter which site triggered the request, but also says which one it was.
//!
//! `SameSite=Lax` already keeps the cookie out of most such requests; but an app on a sibling
//! subdomain counts as the same site.

use http::header::{HeaderName, ORIGIN};
use http::{HeaderMap, HeaderValue};

use crate::api::problem::{self, ApiError};

/// Refuses a request that the browser does not attribute to the origin of `public_url`, by `Origin`
/// (RFC 6454, 7) and `Sec-Fetch-Site` (W3C Fetch Metadata): at least one must be present, and each
/// that is present must match.
pub(in crate::api) fn refuse(headers: &HeaderMap, public_url: &str) -> Result<(), ApiError> {
    let site = headers.get(HeaderName::from_static("sec-fetch-site"));
    let origin = headers.get(ORIGIN);
    let same_site = site.is_none_or(|site| site == "same-origin");
    let same_origin = origin.is_none_or(|origin| is_of(origin, public_url));
    if same_site && same_origin && (site.is_some() || origin.is_some()) {
        return Ok(());
    }
    let detail = "the request comes with a cookie, and not from a page of this server; programs \
                  send a token in the Authorization header instead";
    Err(ApiError::new(problem::CROSS_SITE_REQUEST, detail))
}

fn is_of(origin: &HeaderValue, public_url: &str) -> bool {
    let ours = url::Url::parse(public_url).map(|url| url.origin().ascii_serialization());
    let theirs = origin.to_str();
    matches!((ours, theirs), (Ok(ours), Ok(theirs)) if ours == theirs)
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    const URL: &str = "https://api.test";

    #[rstest]
    #[case::a_browser_of_ours(&[("origin", URL), ("sec-fetch-site", "same-origin")], true)]
    #[case::an_older_one(&[("origin", URL)], true)]
    #[case::without_an_origin(&[("sec-fetch-site", "same-origin")], true)]
    #[case::no_browser(&[], false)]
    #[case::another_site(&[("origin", "https://evil.example"), ("sec-fetch-site", "cross-site")], false)]
    #[case::an_app_beside_us(&[("origin", "https://app.test"), ("sec-fetch-site", "same-site")], false)]
    #[case::another_port(&[("origin", "https://api.test:444")], false)]
    #[case::plain_http(&[("origin", "http://api.test")], false)]
    #[case::a_sandboxed_frame(&[("origin", "null")], false)]
    #[case::one_of_both_lies(&[("origin", URL), ("sec-fetch-site", "cross-site")], false)]
    #[case::the_other_lies(&[("origin", "https://evil.example"), ("sec-fetch-site", "same-origin")], false)]
    #[case::an_origin_that_begins_alike(&[("origin", "https://api.test.evil.example")], false)]
    fn only_our_own_pages_change_something(#[case] sent: &[(&str, &str)], #[case] allowed: bool) {
        let mut headers = HeaderMap::new();
        for (name, value) in sent {
            headers.insert(HeaderName::try_from(*name).unwrap(), value.parse().unwrap());
        }
        assert_eq!(refuse(&headers, URL).is_ok(), allowed, "{sent:?}");
    }

    #[test]
    fn the_origin_check_ignores_the_default_port_and_the_path() {
        let mut headers = HeaderMap::new();
        headers.insert(ORIGIN, HeaderValue::from_static(URL));
        refuse(&headers, "https://api.test:443/under/a/path").unwrap();
    }
}
