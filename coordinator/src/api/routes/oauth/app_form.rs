//! The fields of a new app (RFC 7591, 2), parsed.

use buddo_shared::api::oauth::{CreateApp, DEVICE_CODE};
use url::Url;

use crate::api::problem::ApiError;
use crate::domain::field_error::FieldError;
use crate::domain::identity::Scope;
use crate::service::oauth::{Flows, NewClient, redirect_uris};

/// Parses the fields, or names each invalid one.
pub(super) fn parse(request: CreateApp) -> Result<NewClient, ApiError> {
    let mut errors = Vec::new();
    let name = name(request.app_name, &mut errors);
    let flows = flows(request.grant_types, &mut errors);
    let uris = request.redirect_uris.unwrap_or_default();
    let redirect_uris = redirect_uris(&uris, flows, &mut errors);
    let is_public = match request.token_endpoint_auth_method.as_deref() {
        None | Some("client_secret_basic" | "client_secret_post") => false,
        Some("none") => true,
        Some(_) => {
            let detail = "must be client_secret_basic, client_secret_post, or none for an app that \
                          cannot keep a secret";
            errors.push(FieldError::new("/token_endpoint_auth_method", detail));
            false
        }
    };
    let mut scopes = Vec::new();
    let asked = request.requested_scopes.unwrap_or_else(|| vec!["profile:read".to_owned()]);
    for (index, word) in asked.iter().enumerate() {
        match word.parse::<Scope>() {
            Ok(scope) if scope.is_reserved() => {
                let detail = "is for Buddo's own command line alone; leave it out";
                errors.push(FieldError::new(format!("/requested_scopes/{index}"), detail));
            }
            Ok(scope) => scopes.push(scope),
            Err(error) => {
                errors.push(FieldError::new(format!("/requested_scopes/{index}"), error));
            }
        }
    }
    if asked.is_empty() {
        let detail = "is empty; name at least one scope, or leave it out for profile:read";
        errors.push(FieldError::new("/requested_scopes", detail));
    }
    if request.app_description.as_ref().is_some_and(|text| text.chars().count() > 500) {
        let detail = "is longer than 500 characters; shorten it";
        errors.push(FieldError::new("/app_description", detail));
    }
    let logo_url = web_url("/logo_url", request.logo_url, &mut errors);
    let website_url = web_url("/website_url", request.website_url, &mut errors);
    if !errors.is_empty() {
        return Err(ApiError::invalid(errors));
    }
    let scopes = scopes.into_iter().collect();
    Ok(NewClient {
        name,
        redirect_uris,
        scopes,
        is_public,
        device_flow: flows.device,
        description: request.app_description,
        logo_url,
        website_url,
    })
}

fn name(name: Option<String>, errors: &mut Vec<FieldError>) -> String {
    let name = name.unwrap_or_default().trim().to_owned();
    let length = name.chars().count();
    if !(1..=100).contains(&length) || name.chars().any(char::is_control) {
        let detail = "must have 1 to 100 printable characters; people read it on the consent page";
        errors.push(FieldError::new("/app_name", detail));
    }
    name
}

fn flows(grant_types: Option<Vec<String>>, errors: &mut Vec<FieldError>) -> Flows {
    let Some(words) = grant_types else { return Flows { code: true, device: false } };
    let mut flows = Flows { code: false, device: false };
    for (index, word) in words.iter().enumerate() {
        match word.as_str() {
            "authorization_code" => flows.code = true,
            DEVICE_CODE => flows.device = true,
            // Comes with either.
            "refresh_token" => {}
            _ => {
                let detail = format!("must be authorization_code, refresh_token or {DEVICE_CODE}");
                errors.push(FieldError::new(format!("/grant_types/{index}"), detail));
                return flows;
            }
        }
    }
    if !flows.code && !flows.device {
        let detail = format!("must name authorization_code or {DEVICE_CODE}");
        errors.push(FieldError::new("/grant_types", detail));
    }
    flows
}

fn web_url(pointer: &str, text: Option<String>, errors: &mut Vec<FieldError>) -> Option<String> {
    let text = text?;
    let valid = text.len() <= 2048
        && Url::parse(&text).is_ok_and(|url| url.scheme() == "https" && url.has_host());
    if !valid {
        errors
            .push(FieldError::new(pointer, "must be an https address, such as https://a.example"));
    }
    Some(text)
}
