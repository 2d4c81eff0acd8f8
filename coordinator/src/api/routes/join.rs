//! `/v1/join` on the listener for hosts: used once in a host's life.

use axum::extract::State;
use axum::middleware::from_fn_with_state;
use axum::routing::post;
use axum::{Json, Router};
use buddo_shared::host_wire::join::{JoinRequest, Joined};

use crate::api::extract::json::ApiJson;
use crate::api::middleware::rate_limit::by_address;
use crate::api::problem::ApiError;
use crate::api::state::ApiState;
use crate::limits::Limit;
use crate::service::hosts::join;
use crate::state::AppState;

/// `POST /v1/join`. Rate-limited by address: each attempt is a transaction, even with a bad token.
pub fn routes(state: &AppState) -> Router<ApiState> {
    let limit = from_fn_with_state((state.clone(), Limit::Public), by_address);
    Router::new().route("/v1/join", post(join).route_layer(limit))
}

async fn join(
    State(state): State<AppState>,
    ApiJson(request): ApiJson<JoinRequest>,
) -> Result<Json<Joined>, ApiError> {
    Ok(Json(join::join(&state, request).await?))
}

#[cfg(test)]
mod tests {
    use axum::body::Body;
    use buddo_shared::host_wire::sealed::OpeningKey;
    use http::Request;
    use http::header::CONTENT_TYPE;
    use http_body_util::BodyExt as _;
    use jiff::SignedDuration;
    use rcgen::{CertificateParams, KeyPair};
    use serde_json::{Value, json};
    use tower::ServiceExt as _;

    use crate::api::router;
    use crate::crypto::random::SystemRandom;
    use crate::service::hosts::join::{Invitation, invite, list};
    use crate::testing::World;

    async fn invitation(world: &World) -> Invitation {
        let state = &world.state;
        let now = state.clock.now();
        invite(&state.store, &state.ca, &SystemRandom, now, "container-host-1", None).await.unwrap()
    }

    fn request(invitation: &Invitation) -> Value {
        let (_, sealing_key) = OpeningKey::generate().unwrap();
        let key = KeyPair::generate().unwrap();
        let csr = CertificateParams::default().serialize_request(&key).unwrap();
        json!({
            "token": invitation.token.secret.expose(),
            "csr": csr.pem().unwrap(),
            "sealing_key": sealing_key,
            "address": "127.0.0.1:7443",
        })
    }

    async fn join(world: &World, body: &Value) -> (u16, Value) {
        let request = Request::post("/v1/join")
            .header(CONTENT_TYPE, "application/json")
            .body(Body::from(body.to_string()))
            .unwrap();
        let answer = router::build_for_hosts(world.api_state()).oneshot(request).await.unwrap();
        let status = answer.status().as_u16();
        let bytes = answer.into_body().collect().await.unwrap().to_bytes();
        (status, serde_json::from_slice(&bytes).unwrap())
    }

    #[tokio::test]
    async fn a_token_joins_one_host_once() {
        let world = World::new();
        let invitation = invitation(&world).await;
        let body = request(&invitation);
        let (status, joined) = join(&world, &body).await;
        assert_eq!(status, 200, "{joined}");
        assert_eq!(joined["zone"], "buddocloud.com");
        let (status, refused) = join(&world, &body).await;
        assert_eq!((status, refused["code"].as_str()), (401, Some("invalid_token")));
        assert_eq!(list(&world.state.store).await.unwrap().len(), 1);
    }

    #[tokio::test]
    async fn a_token_expires_after_15_minutes() {
        let world = World::new();
        let invitation = invitation(&world).await;
        world.clock.advance(SignedDuration::from_mins(15));
        assert_eq!(join(&world, &request(&invitation)).await.0, 401);
        assert!(list(&world.state.store).await.unwrap().is_empty());
    }

    #[tokio::test]
    async fn fm_62_no_host_joins_while_the_clock_is_in_doubt() {
        let world = World::new();
        let invitation = invitation(&world).await;
        world.clock.jump(SignedDuration::from_hours(72));
        let (status, refused) = join(&world, &request(&invitation)).await;
        assert_eq!((status, refused["code"].as_str()), (503, Some("clock_doubted")));
        // Its certificate would not be valid yet. The token is still good.
        world.clock.jump(SignedDuration::from_hours(-72));
        assert_eq!(join(&world, &request(&invitation)).await.0, 200);
    }

    #[tokio::test]
    async fn a_refused_request_does_not_consume_the_token() {
        let world = World::new();
        let invitation = invitation(&world).await;
        let good = request(&invitation);
        for (field, bad) in [
            ("csr", json!("no request")),
            ("address", json!("nowhere")),
            ("sealing_key", json!("AAAA")),
        ] {
            let mut body = good.clone();
            body[field] = bad;
            let (status, refused) = join(&world, &body).await;
            assert_eq!(status, 422, "{refused}");
            assert_eq!(refused["errors"][0]["pointer"], format!("/{field}"));
        }
        let mut forged = good.clone();
        forged["token"] = json!("x".repeat(43));
        assert_eq!(join(&world, &forged).await.0, 401);
        assert_eq!(join(&world, &good).await.0, 200);
    }

    #[tokio::test]
    async fn a_known_host_rejoins_under_its_id() {
        let world = World::new();
        let first = join(&world, &request(&invitation(&world).await)).await.1;
        let again = invitation(&world).await;
        assert!(again.known);
        let second = join(&world, &request(&again)).await.1;
        assert_eq!(first["host_id"], second["host_id"]);
        assert_ne!(first["certificate"], second["certificate"]);
    }

    #[tokio::test]
    async fn fm_67_the_join_token_sets_the_hosts_memory_limit() {
        let world = World::new();
        let (state, name) = (&world.state, "container-host-1");
        let invited = async |most| {
            let now = state.clock.now();
            invite(&state.store, &state.ca, &SystemRandom, now, name, most).await
        };
        assert!(invited(Some(0)).await.is_err());
        // A token that does not mention it changes nothing.
        for (most, kept) in [(Some(2048), 2048), (None, 2048), (Some(4096), 4096)] {
            let (status, _) = join(&world, &request(&invited(most).await.unwrap())).await;
            assert_eq!(status, 200);
            assert_eq!(list(&state.store).await.unwrap()[0].max_memory_mb, Some(kept));
        }
    }

    #[tokio::test]
    async fn token_guesses_are_rate_limited() {
        let world = World::published();
        let mut guess = request(&invitation(&world).await);
        guess["token"] = json!("x".repeat(43));
        for _ in 0..60 {
            assert_eq!(join(&world, &guess).await.0, 401);
        }
        assert_eq!(join(&world, &guess).await.0, 429);
    }

    #[tokio::test]
    async fn the_host_listener_does_not_serve_the_api() {
        let world = World::new();
        let request = Request::get("/api/deploy/tiers").body(Body::empty()).unwrap();
        let answer = router::build_for_hosts(world.api_state()).oneshot(request).await.unwrap();
        assert_eq!(answer.status(), 404);
    }
}
