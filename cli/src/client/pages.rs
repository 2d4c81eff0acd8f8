//! Lists, page after page.

use reqwest::Method;
use reqwest::header::{HeaderMap, LINK};
use serde::de::DeserializeOwned;

use super::transport::Retry;
use super::{Api, ClientError};
use crate::config::ApiUrl;

/// More pages than any account has, to end a loop of links.
const MAX_PAGES: usize = 100;

/// Which credentials read a list.
#[derive(Debug, Clone, Copy)]
pub(super) enum As {
    /// The API key, if one is given.
    KeyOrLogin,
    /// The login, whether or not a key is given.
    Login,
}

impl Api {
    /// All entries of the list at `path`, each page of which is a `P`.
    pub(super) async fn all<P: DeserializeOwned, T>(
        &self,
        reader: As,
        path: &str,
        query: &str,
        entries: impl Fn(P) -> Vec<T>,
    ) -> Result<Vec<T>, ClientError> {
        let mut all = Vec::new();
        let mut page = format!("{path}{query}");
        for _ in 0..MAX_PAGES {
            let make = || self.transport.request(Method::GET, &page);
            let answer = match reader {
                As::KeyOrLogin => self.authorised(Retry::Harmless, make).await?,
                As::Login => self.logged_in(Retry::Harmless, make).await?,
            };
            all.extend(entries(answer.json()?));
            match next_page(&answer.headers, self.url(), path) {
                Some(next) => page = next,
                None => break,
            }
        }
        Ok(all)
    }
}

/// The path of the `rel="next"` link (RFC 8288). A link to elsewhere is not followed: the token
/// would go with it.
fn next_page(headers: &HeaderMap, api: &ApiUrl, list: &str) -> Option<String> {
    let links = headers.get_all(LINK).iter().filter_map(|value| value.to_str().ok());
    let next = links.flat_map(|value| value.split(',')).find_map(|link| {
        let (target, parameters) = link.trim().strip_prefix('<')?.split_once('>')?;
        let mut parameters = parameters.split(';').map(str::trim);
        parameters.any(|p| p == "rel=\"next\"" || p == "rel=next").then_some(target)
    })?;
    let path = next.strip_prefix(api.as_str()).unwrap_or(next);
    path.starts_with(&format!("{list}?")).then(|| path.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIST: &str = "/api/deploy/apps";

    fn next(link: &str) -> Option<String> {
        let mut headers = HeaderMap::new();
        headers.insert(LINK, link.parse().unwrap());
        next_page(&headers, &ApiUrl::parse("https://api.example").unwrap(), LIST)
    }

    #[test]
    fn only_a_link_to_the_same_list_is_followed() {
        let path = Some("/api/deploy/apps?limit=100&after=x".to_owned());
        assert_eq!(next("</api/deploy/apps?limit=100&after=x>; rel=\"next\""), path);
        assert_eq!(
            next("</a>; rel=\"prev\", </api/deploy/apps?limit=100&after=x>; rel=next"),
            path
        );
        assert_eq!(next("<https://api.example/api/deploy/apps?limit=100&after=x>; rel=next"), path);
        assert_eq!(next("<https://evil.example/api/deploy/apps?a=b>; rel=\"next\""), None);
        assert_eq!(next("<//evil.example/api/deploy/apps?a=b>; rel=\"next\""), None);
        assert_eq!(next("</api/deploy/apps?a>; rel=\"last\""), None);
        assert_eq!(next("</api/deploy/apps/x/logs?a=b>; rel=\"next\""), None);
    }
}
