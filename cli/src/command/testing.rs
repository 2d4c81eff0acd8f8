//! API answers for tests.

use buddo_shared::api::deploy::{Deployment, Status, Tier};

/// A deployment as the published page shows it.
pub(super) fn deployment(name: &str, status: Status) -> Deployment {
    Deployment {
        id: "550e8400-e29b-41d4-a716-446655440000".to_owned(),
        app_id: "7c9e6679-7425-40de-944b-e07fc1f90ae7".to_owned(),
        deploy_tier_id: "t".to_owned(),
        container_name: format!("{name}-1"),
        container_image: "docker.io/library/nginx:latest".to_owned(),
        image_digest: None,
        revision: 1,
        subdomain: name.to_owned(),
        url: format!("https://{name}.buddocloud.com"),
        custom_domain: None,
        status,
        health_status: Some("healthy".to_owned()),
        last_health_check: Some("2026-05-21T10:05:00.25Z".parse().unwrap()),
        last_error: None,
        failure: None,
        warning: None,
        waiting: None,
        restarts: 0,
        port: 80,
        memory_limit_mb: 256,
        cpu_limit_millicores: 250,
        host_server: Some("container-host-1".to_owned()),
        billing_status: None,
        deployed_at: None,
        stopped_at: None,
        inserted_at: "2026-05-21T10:00:00Z".parse().unwrap(),
    }
}

pub(super) fn tier(slug: &str) -> Tier {
    Tier {
        id: "t".to_owned(),
        name: slug.to_owned(),
        slug: slug.to_owned(),
        payment_method: "buddo_points".to_owned(),
        monthly_cost_points: Some(100),
        monthly_cost_sats: None,
        memory_limit_mb: 256,
        cpu_limit_millicores: 250,
        custom_domain_allowed: false,
        monthly_stipend_points: 10,
        ad_reach_multiplier: 1.0,
    }
}
