//! `/api/deploy/*`.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use utoipa::openapi::schema::{ObjectBuilder, Schema, SchemaType, Type};
use utoipa::{PartialSchema as _, ToSchema};

use crate::host_wire::manifest::Strategy;
use crate::host_wire::report::Phase;
use crate::model::env::{EnvKey, EnvVars};
use crate::model::secret::Secret;

/// A tier that deployments can be made on; `GET /api/deploy/tiers` answers an array of them.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Tier {
    /// Tier id.
    pub id: String,
    /// Name for people.
    pub name: String,
    /// Name for requests.
    pub slug: String,
    /// `buddo_points` or `bitcoin`.
    #[schema(example = "buddo_points")]
    pub payment_method: String,
    /// Monthly cost in Buddo points; null on Bitcoin tiers.
    pub monthly_cost_points: Option<i64>,
    /// Monthly cost in satoshis; null on Buddo tiers.
    pub monthly_cost_sats: Option<i64>,
    /// Memory cap in MB.
    pub memory_limit_mb: u32,
    /// CPU cap in thousandths of a core.
    pub cpu_limit_millicores: u32,
    /// Whether a custom domain may be bound.
    pub custom_domain_allowed: bool,
    /// Points given back each month.
    pub monthly_stipend_points: i64,
    /// Multiplier of ad campaign reach.
    pub ad_reach_multiplier: f64,
}

/// `GET /api/deploy/registries`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Registries {
    /// Where images may come from: `registry`, or `registry/namespace`.
    #[schema(max_items = 100, example = json!(["docker.io/library", "ghcr.io"]))]
    pub registries: Vec<String>,
}

/// `POST /api/deploy/apps`.
#[derive(Debug, Clone, Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct CreateDeployment {
    /// Name in the zone.
    #[schema(value_type = String, required, min_length = 1, max_length = 32, pattern = "^[a-z0-9]([a-z0-9-]*[a-z0-9])?$", example = "my-app")]
    #[serde(default)]
    pub subdomain: Option<String>,
    /// Image reference in full form, from a registry of `GET /api/deploy/registries`.
    #[schema(value_type = String, required, max_length = 512, pattern = r"^[a-z0-9]+((\.|-+)[a-z0-9]+)*(:[0-9]{1,5})?(/[a-z0-9]+((\.|_|__|-+)[a-z0-9]+)*)+(:[A-Za-z0-9_][A-Za-z0-9._-]{0,127})?(@sha256:[0-9a-f]{64})?$", example = "ghcr.io/me/my-app:v1")]
    #[serde(default)]
    pub image: Option<String>,
    /// Tier slug.
    #[schema(value_type = String, required, min_length = 1, max_length = 64, pattern = "^[a-z0-9-]+$", example = "buddo-starter")]
    #[serde(default)]
    pub tier: Option<String>,
    /// Container port; 3000 if absent.
    #[schema(minimum = 1, maximum = 65535, default = 3000, example = 8080)]
    #[serde(default)]
    pub port: Option<i64>,
    /// The operator's own host name.
    #[schema(min_length = 3, max_length = 253, example = "www.example.com")]
    #[serde(default)]
    pub custom_domain: Option<String>,
    /// Environment.
    #[schema(schema_with = env_vars)]
    #[serde(default)]
    pub env_vars: Option<BTreeMap<String, Secret>>,
    /// `rolling` or `recreate`; `rolling` if absent.
    #[schema(value_type = Option<Strategy>, default = "rolling")]
    #[serde(default)]
    pub strategy: Option<String>,
}

impl Serialize for CreateDeployment {
    /// Hand-written because the environment's values go on the wire here and nowhere else.
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        use serde::ser::SerializeMap as _;
        let mut map = serializer.serialize_map(None)?;
        let texts = [
            ("subdomain", &self.subdomain),
            ("image", &self.image),
            ("tier", &self.tier),
            ("custom_domain", &self.custom_domain),
            ("strategy", &self.strategy),
        ];
        for (name, value) in texts {
            if let Some(value) = value {
                map.serialize_entry(name, value)?;
            }
        }
        if let Some(port) = self.port {
            map.serialize_entry("port", &port)?;
        }
        if let Some(vars) = &self.env_vars {
            let plain: BTreeMap<&str, &str> =
                vars.iter().map(|(key, value)| (key.as_str(), value.expose())).collect();
            map.serialize_entry("env_vars", &plain)?;
        }
        map.end()
    }
}

/// The limits of [`EnvVars`], as far as a schema can express them.
fn env_vars() -> Schema {
    let value = ObjectBuilder::new()
        .schema_type(Type::String)
        .max_length(Some(EnvVars::MAX_VALUE))
        .pattern(Some("^[^\\u0000]*$"));
    let mut schema = ObjectBuilder::new()
        .schema_type(SchemaType::from_iter([Type::Object, Type::Null]))
        .description(Some(
            "Environment; kept encrypted and never shown again. As JSON it has at most 131072 \
             bytes.",
        ))
        .property_names(Some(EnvKey::schema()))
        .additional_properties(Some(value))
        .examples([serde_json::json!({ "LOG_LEVEL": "info" })])
        .build();
    schema.max_properties = Some(EnvVars::MAX_VARS);
    schema.into()
}

/// The published five. There is no sixth: a deployment that failed is `stopped` or still
/// `running` on its old revision, with `last_error`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Status {
    /// Created, container not yet provisioned.
    Pending,
    /// Image is being pulled and started.
    Deploying,
    /// Live and passing health checks.
    Running,
    /// Stopped, by its operator or by the platform.
    Stopped,
    /// Permanently removed.
    Destroyed,
}

impl Status {
    /// The word on the wire.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Deploying => "deploying",
            Self::Running => "running",
            Self::Stopped => "stopped",
            Self::Destroyed => "destroyed",
        }
    }
}

impl std::fmt::Display for Status {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.pad(self.as_str())
    }
}

impl std::str::FromStr for Status {
    type Err = UnknownStatus;

    fn from_str(text: &str) -> Result<Self, UnknownStatus> {
        [Self::Pending, Self::Deploying, Self::Running, Self::Stopped, Self::Destroyed]
            .into_iter()
            .find(|status| status.as_str() == text)
            .ok_or(UnknownStatus)
    }
}

/// A text that is not a [`Status`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("is not a deployment status")]
pub struct UnknownStatus;

/// What failed, is wrong, or waits.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Failure {
    /// A stable word for programs, such as `image_not_found`.
    #[schema(example = "image_not_found")]
    pub code: String,
    /// What is wrong, in one line.
    pub cause: String,
    /// What to do about it, in one line.
    pub fix: String,
}

/// A deployment with all published fields, and `last_error`, `restarts`, `image_digest`,
/// `revision` and `url` beside them.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Deployment {
    /// Deployment id.
    #[schema(format = "uuid")]
    pub id: String,
    /// Application id.
    #[schema(format = "uuid")]
    pub app_id: String,
    /// Tier id.
    pub deploy_tier_id: String,
    /// Name of the container on its host.
    pub container_name: String,
    /// Image as its operator named it.
    pub container_image: String,
    /// Bytes of the current revision, once known.
    #[schema(pattern = "^sha256:[0-9a-f]{64}$")]
    pub image_digest: Option<String>,
    /// Current revision.
    #[schema(minimum = 1)]
    pub revision: u32,
    /// Name in the zone.
    pub subdomain: String,
    /// Live address.
    #[schema(format = "uri")]
    pub url: String,
    /// The operator's own host name.
    pub custom_domain: Option<String>,
    /// State.
    pub status: Status,
    /// `healthy`, `unhealthy` or `unknown`.
    pub health_status: Option<String>,
    /// When it was last probed.
    pub last_health_check: Option<Timestamp>,
    /// What keeps a change from going on, or how the last one failed; and what to do: a line each.
    pub last_error: Option<String>,
    /// How the last change ended, where that was badly.
    #[serde(default)]
    pub failure: Option<Failure>,
    /// What is wrong while it may well serve.
    #[serde(default)]
    pub warning: Option<Failure>,
    /// What keeps a change from going on.
    #[serde(default)]
    pub waiting: Option<Failure>,
    /// How often what serves went down by itself lately and was started again: 0 once it has not
    /// for ten minutes. It may answer in between, and be `healthy`.
    #[schema(required)]
    #[serde(default)]
    pub restarts: u32,
    /// Container port.
    pub port: u16,
    /// Memory cap in MB.
    pub memory_limit_mb: u32,
    /// CPU cap in thousandths of a core.
    pub cpu_limit_millicores: u32,
    /// Host that runs it.
    pub host_server: Option<String>,
    /// State of billing.
    pub billing_status: Option<String>,
    /// When it last became live.
    pub deployed_at: Option<Timestamp>,
    /// When it was last stopped.
    pub stopped_at: Option<Timestamp>,
    /// When it was created.
    pub inserted_at: Timestamp,
}

/// Answer of create, get, restart, rollback and stop.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct DeploymentEnvelope {
    /// The deployment.
    pub deployment: Deployment,
}

/// `GET /api/deploy/apps`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct DeploymentList {
    /// The caller's deployments.
    #[schema(max_items = 100)]
    pub deployments: Vec<Deployment>,
}

/// `GET /api/deploy/apps/{id}/status`, and each event of `GET /api/deploy/apps/{id}/events`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct StatusAnswer {
    /// Deployment id.
    #[schema(format = "uuid")]
    pub id: String,
    /// State.
    pub status: Status,
    /// Name in the zone.
    pub subdomain: String,
    /// `healthy`, `unhealthy` or `unknown`.
    pub health_status: Option<String>,
    /// When it was last probed.
    pub last_health_check: Option<Timestamp>,
    /// What keeps a change from going on, or how the last one failed; and what to do: a line each.
    pub last_error: Option<String>,
    /// How the last change ended, where that was badly.
    #[serde(default)]
    pub failure: Option<Failure>,
    /// What is wrong while it may well serve.
    #[serde(default)]
    pub warning: Option<Failure>,
    /// What keeps a change from going on.
    #[serde(default)]
    pub waiting: Option<Failure>,
    /// How often what serves went down by itself lately and was started again: 0 once it has not
    /// for ten minutes. It may answer in between, and be `healthy`.
    #[schema(required)]
    #[serde(default)]
    pub restarts: u32,
    /// What is being done now, while `pending` or `deploying`.
    pub progress: Option<StatusProgress>,
}

/// How far a deploy is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct StatusProgress {
    /// The phase.
    pub phase: Phase,
    /// Per cent of it, where that can be known.
    #[schema(maximum = 100)]
    pub percent: Option<u8>,
}

/// `GET /api/deploy/apps/{id}/logs`: the audit log, oldest first.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct AuditLog {
    /// The entries.
    #[schema(max_items = 1000)]
    pub logs: Vec<AuditEntry>,
}

/// One act on a deployment.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct AuditEntry {
    /// Entry id.
    pub id: String,
    /// `create`, `deploy`, `stop`, `restart`, `destroy`, `suspend`, `reactivate`; beside the
    /// published ones `rollback` and `prune` (old revisions were forgotten).
    pub action: String,
    /// `pending`, `completed` or `failed`; `superseded`: another act ended it before it could be
    /// either.
    pub status: String,
    /// The account that did it; null for the platform.
    pub initiated_by: Option<String>,
    /// When.
    pub inserted_at: Timestamp,
    /// More about it, such as the cause of a failure.
    #[schema(value_type = Option<BTreeMap<String, serde_json::Value>>)]
    pub details: Option<serde_json::Value>,
}

/// `GET /api/deploy/apps/{id}/revisions`: newest first.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct RevisionList {
    /// Those that are kept.
    pub revisions: Vec<Revision>,
}

/// One revision of a deployment: what it means, and what became of it. It never shows its
/// environment.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Revision {
    /// Its number, from 1.
    #[schema(minimum = 1)]
    pub revision: u32,
    /// Image as its operator named it.
    pub container_image: String,
    /// The bytes it means, once known: they never change.
    #[schema(pattern = "^sha256:[0-9a-f]{64}$")]
    pub image_digest: Option<String>,
    /// Container port.
    pub port: u16,
    /// The operator's own host name.
    pub custom_domain: Option<String>,
    /// `rolling` or `recreate`.
    pub strategy: Strategy,
    /// Whether it is the one that the deployment is to run.
    pub current: bool,
    /// Whether it answers visitors, as last reported.
    pub serving: bool,
    /// Whether a rollback to it is possible.
    pub can_roll_back: bool,
    /// The revision whose content it took over, where a rollback made it.
    pub rollback_of: Option<u32>,
    /// When it first answered visitors; null if it never did.
    pub live_at: Option<Timestamp>,
    /// Why it was given up, and what to do: one line each.
    pub last_error: Option<String>,
    /// Why it was given up.
    #[serde(default)]
    pub failure: Option<Failure>,
    /// When it was made.
    pub inserted_at: Timestamp,
}

/// `POST /api/deploy/apps/{id}/rollback`; the body may be absent.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Rollback {
    /// The revision to bring back; the newest other one that was live and stayed good if absent.
    #[schema(minimum = 1, maximum = 4_294_967_295_u32)]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub revision: Option<u32>,
}

/// Answer of `DELETE /api/deploy/apps/{id}`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Destroyed {
    /// `Deployment destroyed`.
    pub message: String,
    /// Deployment id.
    #[schema(format = "uuid")]
    pub id: String,
}
