//! Redeploys under load: no request is lost, no other app notices. The full run, 100,000
//! requests on a release build, is `make redeploys`.

use buddo_tests::load::Mix;
use buddo_tests::product::{Limits, Options, Product};
use buddo_tests::trials::{recreate, redeploys};
use buddo_tests::world::{Caddy, Lease};
use rstest::rstest;

#[rstest]
#[case::distribution(Caddy::Distribution)]
#[case::current(Caddy::Current)]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn redeploys_under_load_lose_no_request_of_any_app(
    #[case] caddy: Caddy,
) -> anyhow::Result<()> {
    Lease::run(async |world| {
        let product = Product::up(world, Options { caddy, ..Options::default() }).await?;
        let outcome = redeploys::run(&product, redeploys::Settings::SHORT).await?;
        show(&outcome);
        Ok(())
    })
    .await
}

/// With the drain of production: requests must not be held for longer than Caddy does.
#[rstest]
#[case::get(Caddy::Distribution, Mix::Get)]
#[case::post(Caddy::Distribution, Mix::Post)]
#[case::current(Caddy::Current, Mix::Both)]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stop_first_redeploy_of_a_slow_app_holds_requests(
    #[case] caddy: Caddy,
    #[case] mix: Mix,
) -> anyhow::Result<()> {
    Lease::run(async |world| {
        let options = Options { caddy, limits: Limits::Published, ..Options::default() };
        let product = Product::up(world, options).await?;
        let tally = recreate::run(&product, mix).await?;
        recreate::judge(&tally, caddy, mix)
    })
    .await
}

#[expect(clippy::print_stderr, reason = "the figures of the run")]
fn show(outcome: &redeploys::Outcome) {
    eprintln!("{outcome}");
}
