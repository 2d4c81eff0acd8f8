//! Shared by the tests of this crate: a complete coordinator in its own directory, on a clock that
//! moves only when told to; [`client`] sends it requests.

mod client;
pub(crate) mod deploys;
mod log;
pub(crate) mod services;
pub(crate) mod story;

use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::Router;
use buddo_runtime::clock::{Clock, SystemClock};
use buddo_shared::api::deploy::CreateDeployment;
use buddo_shared::host_wire::report::HostStatus;
use buddo_shared::host_wire::sealed::OpeningKey;
use buddo_shared::model::id::{AccountId, Generation, HostId};
use buddo_shared::model::spec::TierSlug;
use jiff::{SignedDuration, Timestamp};
use tempfile::TempDir;
use uuid::Uuid;

use crate::api::router;
use crate::api::state::ApiState;
use crate::auth::access::DeployCheck;
use crate::auth::password::Cost;
use crate::config::{Config, RateLimits};
use crate::crypto::random::SystemRandom;
use crate::daemon;
use crate::domain::identity::{Email, StoredHash, Username};
use crate::process::secret_file;
use crate::service::teams;
use crate::state::AppState;
use crate::store::StoreError;
use crate::store::contract::{Host, HostIdentity, NewAccount, Tier};
use crate::store::sqlite::snapshot;
pub(crate) use client::{Answer, PASSWORD};
pub(crate) use log::heard;

/// The coordinator's public URL.
pub(crate) const ISSUER: &str = "https://api.test";

/// A clock that tests move.
pub(crate) struct ManualClock {
    now: Mutex<(Timestamp, Duration)>,
    looked_at: Mutex<Option<Arc<dyn Fn() + Send + Sync>>>,
}

impl ManualClock {
    pub(crate) fn at(now: Timestamp) -> Self {
        Self { now: Mutex::new((now, Duration::ZERO)), looked_at: Mutex::default() }
    }

    /// Calls `then` whenever the clock is read: simulates events in the middle of other work.
    pub(crate) fn when_looked_at(&self, then: Option<Arc<dyn Fn() + Send + Sync>>) {
        *self.looked_at.lock().unwrap() = then;
    }

    pub(crate) fn advance(&self, by: SignedDuration) {
        let mut now = self.now.lock().unwrap();
        now.0 = now.0.checked_add(by).unwrap();
        now.1 += Duration::try_from(by).unwrap();
    }

    /// The clock is set: no time passes.
    pub(crate) fn jump(&self, by: SignedDuration) {
        let mut now = self.now.lock().unwrap();
        now.0 = now.0.checked_add(by).unwrap();
    }
}

impl Clock for ManualClock {
    fn now(&self) -> Timestamp {
        let looked_at = self.looked_at.lock().unwrap().clone();
        if let Some(then) = looked_at {
            then();
        }
        self.now.lock().unwrap().0
    }

    fn steady(&self) -> Duration {
        self.now.lock().unwrap().1
    }
}

/// Rate limits high enough not to interfere; tests of them set their own.
const PATIENT: &str = "
    zone = 'buddocloud.com'
    [rate_limits]
    reads = { requests = 10000, seconds = 60 }
    writes = { requests = 10000, seconds = 60 }
    register = { requests = 10000, seconds = 60 }
    login = { requests = 10000, seconds = 60 }
    forgot_password = { requests = 10000, seconds = 60 }
    send_verification = { requests = 10000, seconds = 60 }
    oauth_apps = { requests = 10000, seconds = 60 }
    token = { requests = 10000, seconds = 60 }
    invitations = { requests = 10000, seconds = 60 }
    public = { requests = 10000, seconds = 60 }
    device_codes = { requests = 10000, seconds = 60 }
    lookups = { requests = 1000000, seconds = 60 }
";

pub(crate) struct World {
    pub(crate) state: AppState,
    pub(crate) clock: Arc<ManualClock>,
    /// Bodies and headers of all refusals.
    pub(crate) refusals: Mutex<Vec<String>>,
    router: Router,
    directory: TempDir,
}

impl World {
    pub(crate) fn new() -> Self {
        Self::with(|_| ())
    }

    pub(crate) fn with(change: impl FnOnce(&mut Config)) -> Self {
        Self::at("2026-05-21T10:00:00Z".parse().unwrap(), change)
    }

    pub(crate) fn clock_now(&self) -> Timestamp {
        self.clock.now()
    }

    /// With the published limits.
    pub(crate) fn published() -> Self {
        Self::with(|config| config.rate_limits = RateLimits::default())
    }

    /// For real TLS, which uses the machine's clock.
    pub(crate) fn today() -> Self {
        Self::today_with(|_| ())
    }

    /// The same with a changed configuration.
    pub(crate) fn today_with(change: impl FnOnce(&mut Config)) -> Self {
        Self::at(SystemClock.now(), change)
    }

    fn at(now: Timestamp, change: impl FnOnce(&mut Config)) -> Self {
        // Another test may have installed it already.
        let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
        let directory = tempfile::tempdir().unwrap();
        let mut config: Config = toml::from_str(PATIENT).unwrap();
        config.state_dir = directory.path().join("state");
        config.api.public_url = Some(ISSUER.to_owned());
        change(&mut config);
        Self::assemble(config, Arc::new(ManualClock::at(now)), directory)
    }

    fn assemble(config: Config, clock: Arc<ManualClock>, directory: TempDir) -> Self {
        let cost = Cost { memory_kib: 8, passes: 1 };
        let state = daemon::assemble(config, clock.clone(), Arc::new(SystemRandom), cost).unwrap();
        let router = router::build(ApiState::new(state.clone()).unwrap());
        Self { state, clock, refusals: Mutex::default(), router, directory }
    }

    /// For routers of a test's own.
    pub(crate) fn api_state(&self) -> ApiState {
        ApiState::new(self.state.clone()).unwrap()
    }

    /// A second process that serves from the same files.
    pub(crate) fn beside(&self) -> AppState {
        let cost = Cost { memory_kib: 8, passes: 1 };
        let (config, clock) = (self.state.config.clone(), self.clock.clone());
        daemon::assemble(config, clock, Arc::new(SystemRandom), cost).unwrap()
    }

    /// The same files with the state of a new process.
    pub(crate) fn reopened(self) -> Self {
        let Self { state, clock, router, directory, .. } = self;
        let config = state.config.clone();
        drop((state, router));
        Self::assemble(config, clock, directory)
    }

    /// Account 1 with its own organisation and team, for tests below the API.
    pub(crate) async fn first_account(&self) {
        let made = NewAccount {
            id: account(1),
            email: Email::parse("first@example.com").unwrap(),
            username: Username::parse("first").unwrap(),
            password: StoredHash::from_stored("$".to_owned()),
            referral_code: "FIRST".to_owned(),
            referred_by: None,
            created_at: self.clock.now(),
        };
        let kept: Result<(), StoreError> = self
            .state
            .store
            .write(move |tables| {
                if tables.account(made.id)?.is_none() {
                    tables.insert_account(&made)?;
                    teams::make_own(tables, &made)?;
                    tables.confirm_email(made.id, made.created_at)?;
                }
                Ok(())
            })
            .await;
        kept.unwrap();
    }

    /// Opens a closed tier to all.
    pub(crate) async fn open_tier(&self, slug: &str) {
        let slug = TierSlug::parse(slug).unwrap();
        let opened: Result<(), StoreError> = self
            .state
            .store
            .write(move |tables| {
                let tier = tables.tier(&slug)?.unwrap();
                tables.update_tier(&Tier { open_to_all: true, ..tier })
            })
            .await;
        opened.unwrap();
    }

    /// Makes an account's address unconfirmed.
    pub(crate) fn unverify(&self, name: &str) {
        let database = rusqlite::Connection::open(self.state.config.database()).unwrap();
        let sql = "UPDATE accounts SET email_verified_at = NULL WHERE username_key = ?1";
        assert_eq!(database.execute(sql, [name]).unwrap(), 1);
    }

    /// The same, with a change made while no process runs.
    pub(crate) fn reopened_after(self, meanwhile: impl FnOnce()) -> Self {
        let Self { state, clock, router, directory, .. } = self;
        let config = state.config.clone();
        drop((state, router));
        // Its threads end by themselves.
        let lock = snapshot::lock_path(&config.database());
        while secret_file::lock(&lock).unwrap().is_none() {
            std::thread::yield_now();
        }
        meanwhile();
        Self::assemble(config, clock, directory)
    }

    /// A host that has joined and reported its capacity.
    pub(crate) async fn host(&self, n: u128, memory_mb: u64) -> (HostId, OpeningKey) {
        self.first_account().await;
        let id = HostId::new(Uuid::from_u128(n));
        let (opening, sealing_key) = OpeningKey::generate().unwrap();
        let host = Host {
            id,
            name: format!("container-host-{n}"),
            address: "127.0.0.1:1".to_owned(),
            sealing_key,
            joined_at: self.clock.now(),
            wanted: Generation { epoch: 1, generation: 1 },
            acknowledged: None,
            report_seq: 0,
            status: None,
            last_seen: None,
            unreachable_since: None,
            refusal: None,
            max_memory_mb: None,
            flooded_at: None,
            identity: HostIdentity::default(),
        };
        let joined: Result<(), StoreError> =
            self.state.store.write(move |tables| tables.upsert_host(&host)).await;
        joined.unwrap();
        self.host_says(id, memory_mb).await;
        (id, opening)
    }

    /// A host reports its memory.
    pub(crate) async fn host_says(&self, id: HostId, memory_mb: u64) {
        let status = HostStatus {
            agent_version: "0.1.0".to_owned(),
            podman_version: None,
            caddy_version: None,
            document: None,
            stale: false,
            memory_mb,
            allocatable_mb: None,
            cpu_millicores: 2000,
            warnings: Vec::new(),
            lacks: None,
        };
        let told: Result<(), StoreError> =
            self.state.store.write(move |tables| tables.set_host_status(id, &status)).await;
        told.unwrap();
    }
}

pub(crate) fn account(n: u128) -> AccountId {
    AccountId::new(Uuid::from_u128(n))
}

/// The account, authenticated as its command line.
pub(crate) fn owner(n: u128) -> DeployCheck {
    DeployCheck::of(account(n))
}

/// A valid request.
pub(crate) fn request(subdomain: &str) -> CreateDeployment {
    CreateDeployment {
        subdomain: Some(subdomain.to_owned()),
        image: Some("docker.io/library/nginx:latest".to_owned()),
        tier: Some("buddo-starter".to_owned()),
        ..CreateDeployment::default()
    }
}
