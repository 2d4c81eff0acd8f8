//! What handlers share.

use std::sync::Arc;

use axum::extract::FromRef;

use super::pages::Pages;
use crate::state::AppState;

/// The state of the routers. Handlers that show no page take `State<AppState>`.
#[derive(Clone)]
pub struct ApiState {
    pub services: AppState,
    /// The pages that people see in a browser.
    pub(super) pages: Arc<Pages>,
}

impl ApiState {
    /// Fails if a built-in page cannot be parsed.
    pub fn new(services: AppState) -> Result<Self, minijinja::Error> {
        Ok(Self { services, pages: Arc::new(Pages::new()?) })
    }
}

impl FromRef<ApiState> for AppState {
    fn from_ref(state: &ApiState) -> Self {
        Self::clone(&state.services)
    }
}
