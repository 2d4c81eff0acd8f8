//! The suite on real parts. One binary: thirty would each be linked separately, and a few tests of
//! one file would leave a core idle while they end.

mod at_rest;
mod auto_rollback;
mod away;
mod browser;
mod caddy;
mod certificates;
mod chaos;
mod crashes;
mod crowds;
mod deploy;
mod disk;
mod doctor;
mod documents;
mod domains;
mod failures;
mod faults;
mod fuzz_api;
mod hostile;
mod keys;
mod lost_state;
mod oauth;
mod pages;
mod podman;
mod redeploys;
mod refusals;
mod rollback;
mod secrets;
#[allow(
    clippy::expect_used,
    reason = "the story is for tests, and the lint knows test functions only"
)]
mod stories;
mod trust;
mod watchdog;
mod world;
