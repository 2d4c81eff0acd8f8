//! Where authorization codes may be sent.

use std::fmt;

use url::{Host, Url};

const MAX_BYTES: usize = 2048;

/// A registered redirect URI: `https`, or `http` on a loopback address or `localhost`; absolute,
/// without fragment (RFC 6749, 3.1.2) or credentials.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RedirectUri {
    text: String,
    url: Url,
}

/// Why a text is not a [`RedirectUri`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum RedirectUriError {
    #[error("is not an absolute URI; write it in full, such as https://app.example.com/callback")]
    Malformed,
    /// A scheme other than `https`, and not on this machine.
    #[error("must be https, or http on localhost, 127.0.0.1 or [::1]")]
    Scheme,
    /// It has a `#` part.
    #[error("has a fragment (#…), which redirect URIs may not have; remove it")]
    Fragment,
    /// It has `user:password@`.
    #[error("contains a user name or password; remove it")]
    Credentials,
}

impl RedirectUri {
    /// Parses a redirect URI.
    pub fn parse(text: &str) -> Result<Self, RedirectUriError> {
        // The URL parser drops tabs and newlines; a redirect is compared as text.
        let visible = text.bytes().all(|byte| byte.is_ascii_graphic());
        if text.len() > MAX_BYTES || !visible || text.contains('\\') {
            return Err(RedirectUriError::Malformed);
        }
        let url = Url::parse(text).map_err(|_| RedirectUriError::Malformed)?;
        if url.fragment().is_some() {
            return Err(RedirectUriError::Fragment);
        }
        if !url.username().is_empty() || url.password().is_some() {
            return Err(RedirectUriError::Credentials);
        }
        match url.scheme() {
            "https" if url.host().is_some() => {}
            "http" if is_loopback(&url) => {}
            _ => return Err(RedirectUriError::Scheme),
        }
        Ok(Self { text: text.to_owned(), url })
    }

    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// Whether a request for `asked` matches this URI: the same text (RFC 9700, 2.1), except for
    /// the port of a loopback URI, which a native app cannot choose in advance (RFC 8252, 7.3).
    pub fn allows(&self, asked: &Self) -> bool {
        if self.text == asked.text {
            return true;
        }
        is_loopback(&self.url)
            && self.url.scheme() == "http"
            && asked.url.scheme() == "http"
            && self.url.host() == asked.url.host()
            && self.url.path() == asked.url.path()
            && self.url.query() == asked.url.query()
    }

    /// The URI with query parameters added: the answer to an authorization request.
    pub fn with_query<'a>(&self, pairs: impl IntoIterator<Item = (&'a str, &'a str)>) -> String {
        let mut url = self.url.clone();
        url.query_pairs_mut().extend_pairs(pairs);
        url.into()
    }

    /// The source that a page's policy must name so that its form may lead there: scheme, host and
    /// port; for an IPv6 address only the scheme, since a policy cannot name one (CSP 3, 2.3.1).
    pub fn form_source(&self) -> String {
        match self.url.host() {
            Some(Host::Ipv6(_)) => format!("{}:", self.url.scheme()),
            _ => self.url.origin().ascii_serialization(),
        }
    }

    /// Host and port, for people.
    pub fn host(&self) -> String {
        let host = self.url.host_str().unwrap_or_default();
        self.url.port().map_or_else(|| host.to_owned(), |port| format!("{host}:{port}"))
    }
}

fn is_loopback(url: &Url) -> bool {
    match url.host() {
        Some(Host::Domain(name)) => name == "localhost",
        Some(Host::Ipv4(address)) => address.is_loopback(),
        Some(Host::Ipv6(address)) => address.is_loopback(),
        None => false,
    }
}

impl fmt::Display for RedirectUri {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl std::str::FromStr for RedirectUri {
    type Err = RedirectUriError;

    fn from_str(text: &str) -> Result<Self, RedirectUriError> {
        Self::parse(text)
    }
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    fn uri(text: &str) -> RedirectUri {
        RedirectUri::parse(text).unwrap()
    }

    #[rstest]
    #[case("/callback", RedirectUriError::Malformed)]
    #[case("https://a.example/\ncb", RedirectUriError::Malformed)]
    #[case("https:\\\\a.example", RedirectUriError::Malformed)]
    #[case("http://a.example/cb", RedirectUriError::Scheme)]
    #[case("http://localhost.evil.example/cb", RedirectUriError::Scheme)]
    #[case("javascript:alert(1)", RedirectUriError::Scheme)]
    #[case("data:text/html,x", RedirectUriError::Scheme)]
    #[case("https://a.example/cb#x", RedirectUriError::Fragment)]
    #[case("https://a@b.example/cb", RedirectUriError::Credentials)]
    fn rfc6749_3_1_2_what_is_no_redirect_uri(#[case] text: &str, #[case] why: RedirectUriError) {
        assert_eq!(RedirectUri::parse(text).unwrap_err(), why);
    }

    #[test]
    fn rfc9700_2_1_redirects_match_exactly() {
        let registered = uri("https://a.example/cb");
        assert!(registered.allows(&uri("https://a.example/cb")));
        for other in [
            "https://a.example/cb/",
            "https://a.example/cb?x=1",
            "https://a.example:8443/cb",
            "https://A.example/cb",
            "https://b.a.example/cb",
            "https://a.example/cb/../evil",
        ] {
            assert!(!registered.allows(&uri(other)), "{other}");
        }
    }

    #[test]
    fn rfc8252_7_3_a_loopback_uri_allows_any_port() {
        let registered = uri("http://127.0.0.1/callback");
        assert!(registered.allows(&uri("http://127.0.0.1:51004/callback")));
        assert!(!registered.allows(&uri("http://127.0.0.1:51004/other")));
        assert!(!registered.allows(&uri("http://localhost:51004/callback")));
        assert!(!registered.allows(&uri("https://127.0.0.1:51004/callback")));
    }

    #[test]
    fn csp3_2_3_1_a_policy_names_the_forms_redirect_origin() {
        assert_eq!(uri("https://a.example:8443/cb?x").form_source(), "https://a.example:8443");
        assert_eq!(uri("http://127.0.0.1:5000/cb").form_source(), "http://127.0.0.1:5000");
        assert_eq!(uri("http://[::1]:5000/cb").form_source(), "http:");
    }

    #[test]
    fn the_redirect_keeps_the_registered_query() {
        let answer = uri("https://a.example/cb?tenant=7").with_query([("state", "a b&c")]);
        assert_eq!(answer, "https://a.example/cb?tenant=7&state=a+b%26c");
    }
}
