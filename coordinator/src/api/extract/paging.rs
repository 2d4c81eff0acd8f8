//! Pages of a list: `?limit=` (100 by default and at most) and `&after=`, the id of the last entry
//! of the previous page. An answer that is not the last names the next one (RFC 8288).

use axum::extract::FromRequestParts;
use http::header::LINK;
use http::request::Parts;
use http::{HeaderMap, HeaderValue};
use serde::Deserialize;
use url::form_urlencoded::byte_serialize;
use utoipa::IntoParams;

use crate::api::extract::form::ApiQuery;
use crate::api::problem::ApiError;

/// Maximum number of entries on one page.
pub(crate) const MOST: u32 = 100;

/// What a list may be asked.
#[derive(Debug, Clone, Default, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(crate) struct Listing {
    /// Entries at most.
    #[param(
        value_type = Option<u32>,
        nullable = false,
        minimum = 1,
        maximum = 100,
        default = 100,
        example = 100
    )]
    limit: Option<String>,
    /// The last entry of the page before: its id, or the number of a revision. Take it from `Link`.
    #[param(nullable = false)]
    after: Option<String>,
    #[serde(skip)]
    #[param(ignore)]
    path: String,
    /// Further query parameters of the next page.
    #[serde(skip)]
    #[param(ignore)]
    kept: String,
}

impl<S: Send + Sync> FromRequestParts<S> for Listing {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, ApiError> {
        let ApiQuery(listing) = ApiQuery::<Self>::from_request_parts(parts, state).await?;
        Ok(Self { path: parts.uri.path().to_owned(), ..listing })
    }
}

impl Listing {
    /// Adds this parameter to the query of the next page.
    pub(crate) fn keeping(mut self, name: &str, value: Option<String>) -> Self {
        if let Some(value) = value {
            let value: String = byte_serialize(value.as_bytes()).collect();
            self.kept.extend(["&", name, "=", &value]);
        }
        self
    }

    /// The maximum number of entries.
    pub(crate) fn limit(&self) -> Result<u32, ApiError> {
        self.limit_or(MOST)
    }

    fn limit_or(&self, default: u32) -> Result<u32, ApiError> {
        let Some(text) = &self.limit else { return Ok(default) };
        let limit = text.parse().ok().filter(|limit| (1..=MOST).contains(limit));
        limit.ok_or_else(|| ApiError::field("/limit", "is out of range; use 1 to 100"))
    }

    /// The entry after which the page begins, as an id.
    pub(crate) fn after<T>(&self) -> Result<Option<T>, ApiError>
    where
        T: std::str::FromStr<Err: std::fmt::Display>,
    {
        let parsed = self.after.as_ref().map(|text| text.parse()).transpose();
        parsed.map_err(|error: T::Err| ApiError::field("/after", error))
    }

    /// Names the page after `last`.
    pub(crate) fn next(&self, last: &str) -> Result<HeaderMap, ApiError> {
        let mut headers = HeaderMap::new();
        let limit = self.limit()?;
        let last: String = byte_serialize(last.as_bytes()).collect();
        let (path, kept) = (&self.path, &self.kept);
        let link = format!("<{path}?limit={limit}&after={last}{kept}>; rel=\"next\"");
        // A matched path and an escaped value: always a valid header value.
        if let Ok(link) = HeaderValue::try_from(link) {
            headers.insert(LINK, link);
        }
        Ok(headers)
    }

    /// One page of a list that is short anyway; without a limit, `default` entries are shown.
    pub(crate) fn cut<T>(
        &self,
        mut entries: Vec<T>,
        default: u32,
        id: impl Fn(&T) -> String,
    ) -> Result<(HeaderMap, Vec<T>), ApiError> {
        let limit = usize::try_from(self.limit_or(default)?).unwrap_or(usize::MAX);
        if let Some(after) = &self.after {
            let last = entries.iter().position(|entry| id(entry) == *after);
            let last = last.ok_or_else(|| {
                ApiError::field("/after", "is not an entry of this list; start over without it")
            })?;
            entries.drain(..=last);
        }
        let more = entries.len() > limit;
        entries.truncate(limit);
        let headers = match entries.last() {
            Some(last) if more => self.next(&id(last))?,
            _ => HeaderMap::new(),
        };
        Ok((headers, entries))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn listing(limit: &str, after: &str) -> Listing {
        let some = |text: &str| Some(text.to_owned()).filter(|text| !text.is_empty());
        Listing {
            limit: some(limit),
            after: some(after),
            path: "/list".to_owned(),
            kept: String::new(),
        }
    }

    fn cut(listing: &Listing) -> (String, Vec<u32>) {
        let (headers, page) = listing.cut((1..=5).collect(), 100, ToString::to_string).unwrap();
        let link = headers.get(LINK).map_or("", |link| link.to_str().unwrap());
        (link.to_owned(), page)
    }

    #[test]
    fn next_links_lead_through_every_page() {
        assert_eq!(cut(&listing("", "")), (String::new(), vec![1, 2, 3, 4, 5]));
        let next = |after| format!("</list?limit=2&after={after}>; rel=\"next\"");
        assert_eq!(cut(&listing("2", "")), (next(2), vec![1, 2]));
        assert_eq!(cut(&listing("2", "2")), (next(4), vec![3, 4]));
        assert_eq!(cut(&listing("2", "4")), (String::new(), vec![5]));
        assert_eq!(cut(&listing("5", "")), (String::new(), vec![1, 2, 3, 4, 5]));
        assert_eq!(cut(&listing("2", "5")), (String::new(), vec![]));
    }

    #[test]
    fn invalid_paging_parameters_are_refused_by_name() {
        for (limit, after, pointer) in
            [("0", "", "/limit"), ("101", "", "/limit"), ("x", "", "/limit"), ("", "9", "/after")]
        {
            let refused = listing(limit, after).cut(vec![1, 2], 100, ToString::to_string);
            assert_eq!(refused.unwrap_err().problem().errors[0].pointer, pointer);
        }
    }
}
