//! An operator's request, fully validated: the CLI refuses a bad one before sending it, the
//! coordinator before storing it, with the same messages.

use serde::{Deserialize, Serialize};

use crate::api::deploy::CreateDeployment;
use crate::api::problem::FieldError;
use crate::host_wire::manifest::Strategy;
use crate::model::env::EnvVars;
use crate::model::image::ImageReference;
use crate::model::name::{HostName, Subdomain};
use crate::model::port::Port;
use crate::model::text_newtype;

/// The slug of a tier: 1–64 of `[a-z0-9-]`.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct TierSlug(String);

/// A text that is not a [`TierSlug`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("is not a valid tier slug; pick one of GET /api/deploy/tiers, such as buddo-starter")]
pub struct TierSlugError;

impl TierSlug {
    /// Parses a slug. Whether such a tier exists is for the coordinator's database to say.
    pub fn parse(text: &str) -> Result<Self, TierSlugError> {
        let valid = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-';
        if (1..=64).contains(&text.len()) && text.bytes().all(valid) {
            Ok(Self(text.to_owned()))
        } else {
            Err(TierSlugError)
        }
    }
}

text_newtype!(TierSlug, TierSlugError);

/// A valid request for a deployment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AppSpec {
    /// The app's name in the zone.
    pub subdomain: Subdomain,
    /// The image.
    pub image: ImageReference,
    /// The tier asked for.
    pub tier: TierSlug,
    /// The port the app listens on inside its container.
    pub port: Port,
    /// The operator's own host name.
    pub custom_domain: Option<HostName>,
    /// The app's environment.
    pub env: EnvVars,
    /// How a new revision replaces the previous one.
    pub strategy: Strategy,
}

impl AppSpec {
    /// Checks every field and reports all errors at once, each with its JSON pointer (RFC 6901) and
    /// the fix. Whether the image may be deployed is for the platform to say
    /// ([`ImageAllowList`](crate::model::allow_list::ImageAllowList)).
    pub fn parse(request: CreateDeployment) -> Result<Self, Vec<FieldError>> {
        let mut errors = Vec::new();
        let subdomain =
            field(&mut errors, "/subdomain", required(request.subdomain), |t| Subdomain::parse(&t));
        let image =
            field(&mut errors, "/image", required(request.image), |t| ImageReference::parse(&t));
        let tier = field(&mut errors, "/tier", required(request.tier), |t| TierSlug::parse(&t));
        let port = match request.port {
            None => Some(Port::DEFAULT),
            Some(port) => field(&mut errors, "/port", Ok(port), Port::try_from),
        };
        let custom_domain = match request.custom_domain {
            None => Some(None),
            Some(domain) => {
                field(&mut errors, "/custom_domain", Ok(domain), |t| HostName::parse(&t)).map(Some)
            }
        };
        let env = match EnvVars::parse(request.env_vars.unwrap_or_default()) {
            Ok(env) => Some(env),
            Err(found) => {
                errors.extend(found.into_iter().map(|(name, error)| match name {
                    Some(name) => FieldError::new(
                        format!("/env_vars/{}", name.replace('~', "~0").replace('/', "~1")),
                        error,
                    ),
                    None => FieldError::new("/env_vars", error),
                }));
                None
            }
        };
        let strategy = match request.strategy {
            None => Some(Strategy::default()),
            Some(word) => field(&mut errors, "/strategy", Ok(word), |word| word.parse()),
        };
        match (subdomain, image, tier, port, custom_domain, env, strategy) {
            (
                Some(subdomain),
                Some(image),
                Some(tier),
                Some(port),
                Some(custom_domain),
                Some(env),
                Some(strategy),
            ) if errors.is_empty() => {
                Ok(Self { subdomain, image, tier, port, custom_domain, env, strategy })
            }
            _ => Err(errors),
        }
    }
}

/// An absent required field.
#[derive(Debug, thiserror::Error)]
#[error("is required; add it")]
struct Missing;

fn required<T>(value: Option<T>) -> Result<T, Missing> {
    value.ok_or(Missing)
}

fn field<T, U, E: std::fmt::Display>(
    errors: &mut Vec<FieldError>,
    pointer: &str,
    value: Result<T, Missing>,
    parse: impl FnOnce(T) -> Result<U, E>,
) -> Option<U> {
    match value {
        Err(missing) => errors.push(FieldError::new(pointer, missing)),
        Ok(value) => match parse(value) {
            Ok(parsed) => return Some(parsed),
            Err(error) => errors.push(FieldError::new(pointer, error)),
        },
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_errors_are_reported_at_once() {
        let errors = AppSpec::parse(CreateDeployment {
            subdomain: Some("-x".to_owned()),
            image: Some("nginx".to_owned()),
            tier: None,
            port: Some(0),
            strategy: Some("Rolling".to_owned()),
            ..CreateDeployment::default()
        })
        .unwrap_err();
        let pointers: Vec<_> = errors.iter().map(|e| e.pointer.as_str()).collect();
        assert_eq!(pointers, ["/subdomain", "/image", "/tier", "/port", "/strategy"]);
        assert_eq!(errors[2].detail, "is required; add it");
    }

    #[test]
    fn port_and_strategy_have_defaults() {
        let spec = AppSpec::parse(CreateDeployment {
            subdomain: Some("my-app".to_owned()),
            image: Some("docker.io/library/nginx:latest".to_owned()),
            tier: Some("buddo-starter".to_owned()),
            ..CreateDeployment::default()
        })
        .unwrap();
        assert_eq!((spec.port.get(), spec.strategy), (3000, Strategy::Rolling));
    }
}
