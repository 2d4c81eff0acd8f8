//! Deterministic simulation: the real agent on a machine of which every part can fail.
//!
//! One seed is one run on one thread, with a paused clock and no I/O: reconciler, plan, executor,
//! desired state, probes, reports, routes and the SQLite store are the real ones; Podman, Caddy,
//! the resolver, the disk, the clock and the coordinator are models with faults. After each effect
//! the rules are checked; once the faults end, everything must become as the last document says.
//! What operators and apps do comes from the [`story`], which drives real parts, too.
//!
//! ```text
//! operators ─► coordinator ──documents──► ┌───────────┐ ──calls──► podman  (may hang, refuse,
//!                  ▲                      │ the agent │            lose answers, events, containers)
//!                  └──────reports──────── │ (killed   │ ──table──► resolver ─► caddy ─► visitors
//!                                         │  at any   │ ──SQL────► disk (full, failing, lost)
//!                                         │  effect)  │ ◄──time─── clock (± a year)
//!                                         └───────────┘
//! ```
//!
//! `make sim SEEDS=n SEED_START=s` runs more seeds; a failing seed prints the command to rerun it.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "what fails here fails its test; the lints know test functions only"
)]

mod agent;
mod auto_rollback;
mod befall;
mod caddy;
mod clock;
mod converged;
mod coordinator;
mod disk;
mod faults;
mod invariants;
mod operators;
mod plan_alone;
mod podman;
mod run;
mod scenarios;
#[path = "../story/mod.rs"]
mod story;
mod visitors;
mod world;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use coordinator::Keys;
use run::Failure;

/// Seeds in each run of the tests.
const SEEDS: u64 = 10_000;

fn from_environment(name: &str, default: u64) -> u64 {
    match std::env::var(name) {
        Ok(text) => text.parse().unwrap_or_else(|_| panic!("{name}={text} is not a number")),
        Err(_) => default,
    }
}

/// The failing seed's whole story: it is rerun, recording its actions.
fn tell(seed: u64, keys: &Arc<Keys>) -> String {
    match run::run(seed, keys, true) {
        Err(Failure { words, story }) => format!(
            "seed {seed}: {words}\n\nits last actions:\n{}\n\nagain: make sim SEEDS=1 SEED_START={seed}\n",
            story.join("\n")
        ),
        Ok(_) => {
            format!("seed {seed} failed, and not when it was run again: it is not deterministic")
        }
    }
}

#[test]
fn every_seed_upholds_every_invariant() {
    let (first, count) = (from_environment("SEED_START", 0), from_environment("SEEDS", SEEDS));
    let most = from_environment("FAILURES", 1);
    let keys = Arc::new(Keys::generate());
    let next = AtomicU64::new(first);
    let failures = std::sync::Mutex::new(Vec::new());
    let (calls, lives, documents) = (AtomicU64::new(0), AtomicU64::new(0), AtomicU64::new(0));
    let rolled_back_to = AtomicU64::new(0);
    let begun = std::time::Instant::now();
    let workers = std::thread::available_parallelism().map_or(2, usize::from);
    std::thread::scope(|scope| {
        for _ in 0..workers {
            scope.spawn(|| {
                loop {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    let failed = failures.lock().unwrap().len() as u64;
                    if seed >= first + count || failed >= most {
                        return;
                    }
                    match run::run(seed, &keys, false) {
                        Ok(done) => {
                            calls.fetch_add(done.calls, Ordering::Relaxed);
                            lives.fetch_add(done.lives, Ordering::Relaxed);
                            documents.fetch_add(done.documents, Ordering::Relaxed);
                            rolled_back_to.fetch_add(done.rolled_back_to, Ordering::Relaxed);
                        }
                        Err(failure) => failures.lock().unwrap().push((seed, failure.words)),
                    }
                }
            });
        }
    });
    println!(
        "{count} seeds from {first} in {:.1?}: {calls:?} calls, {lives:?} lives, {documents:?} documents, \
         {rolled_back_to:?} rolled back",
        begun.elapsed()
    );
    let failures = failures.into_inner().unwrap();
    let Some((seed, _)) = failures.first() else {
        // Otherwise checks about auto rollback would hold vacuously.
        assert!(
            count < 1_000 || rolled_back_to.into_inner() > count / 50,
            "auto rollback has nothing to do"
        );
        return;
    };
    for (seed, words) in &failures {
        eprintln!("seed {seed}: {}", words.lines().next().unwrap_or_default());
    }
    panic!("{} of {count} seeds failed\n{}", failures.len(), tell(*seed, &keys));
}

#[test]
fn a_seed_gives_the_same_run_each_time() {
    let keys = Arc::new(Keys::generate());
    for seed in 0..20 {
        let digest = || run::run(seed, &keys, true).map(|done| done.digest).map_err(|f| f.words);
        assert_eq!(digest(), digest(), "seed {seed}");
    }
}
