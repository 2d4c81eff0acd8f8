//! `serve`: keys, database and sockets first; then the tasks; then a bounded drain.

use std::net::IpAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result, anyhow};
use buddo_runtime::clock::Clock;
use rustls::ServerConfig;
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use sd_notify::NotifyState;
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::Notify;
use tokio::task::JoinSet;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use crate::api::state::ApiState;
use crate::api::{router, scrape};
use crate::auth::authentication::Authentication;
use crate::auth::password::Cost;
use crate::config::Config;
use crate::crypto::ca;
use crate::crypto::random::Random;
use crate::host_client::HostConnections;
use crate::hosts;
use crate::key_files::Keys;
use crate::limits::Limiters;
use crate::limits::shown::ShownLately;
use crate::live::{LiveStatus, Wake};
use crate::process::metrics::Metrics;
use crate::process::serve::{self, Listener, Tls};
use crate::process::trusted_clock::Timekeeper;
use crate::service::{clock, failed_logins, master_key, retention};
use crate::state::{AppState, Services};
use crate::store::Store;
use crate::store::cache::Cache;
use crate::tasks::mail::{self, Mailer};

/// Grace period on top of what connections get to finish.
const LAST_WORDS: Duration = Duration::from_secs(2);

/// Opens keys and database, and creates what is missing.
pub fn assemble(
    config: Config,
    clock: Arc<dyn Clock>,
    random: Arc<dyn Random>,
    cost: Cost,
) -> Result<AppState> {
    let keys = Keys::of(&config)?;
    let ca = keys.ca(Arc::clone(&clock))?;
    let (vault, signing) = (keys.vault(&*random)?, keys.signing()?);
    let metrics = Metrics::default();
    let store = Store::open(&config.database())?.counted(metrics.clone());
    let auth = Authentication::open(&config, store.clone(), Arc::clone(&clock), &*random, cost)?;
    Ok(Arc::new(Services {
        store,
        vault: Arc::new(vault),
        keys: signing,
        auth,
        limiters: Limiters::new(&config.rate_limits),
        shown: ShownLately::default(),
        mail_due: Notify::new(),
        ca,
        live: LiveStatus::new(config.limits.event_streams),
        status_cache: Cache::default(),
        connections: HostConnections::new(metrics.clone()),
        metrics,
        wake: Wake::default(),
        drain: CancellationToken::new(),
        time: Timekeeper::new(Arc::clone(&clock)),
        clock,
        random,
        config,
    }))
}

/// Serves until SIGTERM or SIGINT.
pub async fn run(state: AppState) -> Result<()> {
    let config = &state.config;
    let api_state = ApiState::new(state.clone()).context("cannot read a built-in page")?;
    master_key::settle(&state.store, &state.vault).await?;
    clock::begin(&state).await?;
    // Sockets first: early clients wait instead of being refused.
    let api = bind("api", config.api.listen).await?;
    let hosts = bind("hosts", config.hosts.listen).await?;
    let scraped = bind("metrics", config.metrics.listen).await?;
    let tls = api_tls(&state)?;
    let connections = config.limits.connections;
    let listeners = [
        Listener {
            tcp: api,
            tls,
            router: router::build(api_state.clone()),
            connections,
            name: "api",
            metrics: state.metrics.clone(),
            proxies: config.api.trusted_proxies.iter().map(IpAddr::to_canonical).collect(),
        },
        Listener {
            tcp: hosts,
            tls: hosts_tls(&state),
            router: router::build_for_hosts(api_state),
            connections,
            name: "hosts",
            metrics: state.metrics.clone(),
            proxies: Vec::new(),
        },
    ];
    let mailer = Mailer::new(&config.mail, &config.state_dir)?;
    let mut tasks = JoinSet::new();
    for listener in listeners {
        tasks.spawn(serve::serve(listener, state.drain.clone()));
    }
    tasks.spawn(scrape::serve(scraped, state.clone()));
    tasks.spawn(hosts::run(state.clone()));
    tasks.spawn(mail::run(state.clone(), mailer));
    tasks.spawn(retention::run(state.clone()));
    tasks.spawn(clock::run(state.clone()));
    tasks.spawn(failed_logins::run(state.clone()));
    tasks.spawn(watchdog(state.clone()));
    tracing::info!(
        api = %config.api.listen,
        hosts = %config.hosts.listen,
        zone = %config.zone,
        "serving"
    );
    notify(&[NotifyState::Ready]);
    let ended = until_one_ends(&mut tasks, stop_signal()).await;
    notify(&[NotifyState::Stopping]);
    tracing::info!("draining");
    state.drain.cancel();
    let drained = async { while tasks.join_next().await.is_some() {} };
    if timeout(serve::DRAIN + LAST_WORDS, drained).await.is_err() {
        tracing::warn!("the drain timed out; dropping the rest");
    }
    ended
}

/// Waits for `stop`. A task that ends earlier has panicked, and then the process is no longer
/// complete: it exits, and systemd starts a fresh one.
async fn until_one_ends(
    tasks: &mut JoinSet<()>,
    stop: impl Future<Output = Result<()>>,
) -> Result<()> {
    tokio::select! {
        stopped = stop => stopped,
        Some(_) = tasks.join_next() => {
            Err(anyhow!("a task of the coordinator has failed; the log above says which"))
        }
    }
}

async fn bind(section: &str, address: std::net::SocketAddr) -> Result<TcpListener> {
    TcpListener::bind(address).await.with_context(|| {
        format!("cannot listen on {address}; change [{section}] listen, or stop what uses it")
    })
}

/// The configured certificate, or a self-renewing one of the host CA.
fn api_tls(state: &AppState) -> Result<Tls> {
    let api = &state.config.api;
    if let (Some(chain), Some(key)) = (&api.tls_cert, &api.tls_key) {
        let config = Arc::new(configured(chain, key)?);
        return Ok(Arc::new(move || Ok(Arc::clone(&config))));
    }
    state.ca.identity().context("cannot make the API's certificate; check [api] names")?;
    let state = state.clone();
    Ok(Arc::new(move || Ok(state.ca.identity()?.api)))
}

fn hosts_tls(state: &AppState) -> Tls {
    let state = state.clone();
    Arc::new(move || Ok(state.ca.identity()?.hosts))
}

fn configured(chain: &Path, key: &Path) -> Result<ServerConfig> {
    let certificates = CertificateDer::pem_file_iter(chain)
        .and_then(Iterator::collect)
        .with_context(|| format!("cannot read the certificate {}", chain.display()))?;
    let private = PrivateKeyDer::from_pem_file(key)
        .with_context(|| format!("cannot read the private key {}", key.display()))?;
    ca::api_config(certificates, private)
        .with_context(|| format!("{} does not match {}", key.display(), chain.display()))
}

/// Tells systemd that the database still answers; otherwise systemd restarts the process.
async fn watchdog(state: AppState) {
    let Some(within) = sd_notify::watchdog_enabled() else {
        return state.drain.cancelled().await;
    };
    let mut ticks = tokio::time::interval(within / 3);
    loop {
        tokio::select! {
            () = state.drain.cancelled() => return,
            _ = ticks.tick() => {}
        }
        let answers = state.store.read(|tables| tables.tiers());
        if timeout(within / 3, answers).await.is_ok_and(|answer| answer.is_ok()) {
            notify(&[NotifyState::Watchdog]);
        }
    }
}

async fn stop_signal() -> Result<()> {
    let mut terminate = signal(SignalKind::terminate()).context("cannot listen for SIGTERM")?;
    let mut interrupt = signal(SignalKind::interrupt()).context("cannot listen for SIGINT")?;
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
    Ok(())
}

fn notify(states: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(states) {
        tracing::warn!(%error, "cannot tell systemd about the state");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Otherwise nobody would notice that mail or documents are no longer sent.
    #[tokio::test]
    async fn the_process_stops_with_an_error_when_any_task_ends() {
        let mut tasks = JoinSet::new();
        tasks.spawn(std::future::pending());
        until_one_ends(&mut tasks, std::future::ready(Ok(()))).await.unwrap();
        tasks.spawn(async { panic!("a bug") });
        let ended = until_one_ends(&mut tasks, std::future::pending());
        let ended = timeout(Duration::from_secs(20), ended).await.unwrap();
        assert!(ended.unwrap_err().to_string().contains("has failed"));
    }
}
