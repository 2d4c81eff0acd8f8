use proptest::prelude::{
    ProptestConfig, Strategy as Generate, any, prop, prop_assert, prop_assert_eq, proptest,
};
use uuid::Uuid;

use super::*;
use crate::model::image::Digest;
use crate::model::limits::Limits;
use crate::model::port::Port;
use crate::model::probe::Probe;
use crate::model::workload::{ServiceName, SpecDigest};

fn spec_digest(n: u8) -> SpecDigest {
    SpecDigest::from_bytes(&[n; 32])
}

pub(crate) fn service(name: &str, revision: u32) -> ServiceSpec {
    ServiceSpec {
        name: ServiceName::parse(name).unwrap(),
        revision: Revision::new(revision),
        spec: spec_digest(1),
        replicas: 1,
        public: true,
        image: ImageReference::parse("registry.example/app:v1").unwrap(),
        digest: Some(Digest::parse(&format!("sha256:{}", "0".repeat(64))).unwrap()),
        port: Port::DEFAULT,
        limits: Limits { memory_mb: 256, cpu_millicores: 250, pids: 100 },
        probe: Probe::default(),
        strategy: Strategy::Rolling,
        env: None,
        registry_credentials: None,
    }
}

fn private(name: &str, revision: u32) -> ServiceSpec {
    ServiceSpec { public: false, ..service(name, revision) }
}

fn services<const N: usize>(services: [ServiceSpec; N]) -> Services {
    Services::try_from(Vec::from(services)).unwrap()
}

/// A deployment with one service, new in this revision.
pub(crate) fn deployment(revision: u32) -> DeploymentSpec {
    DeploymentSpec {
        id: DeploymentId::new(Uuid::from_u128(1)),
        revision: Revision::new(revision),
        subdomain: Subdomain::parse("shop").unwrap(),
        run: RunState::Running,
        domains: Vec::new(),
        services: services([service("app", revision)]),
        auto_rollback: None,
        kept_images: Vec::new(),
    }
}

/// With the predecessor `revision` to go back to.
fn with_fallback(deployment: DeploymentSpec, revision: u32, services: Services) -> DeploymentSpec {
    let fallback = Fallback { revision: Revision::new(revision), services };
    DeploymentSpec {
        auto_rollback: Some(Box::new(AutoRollback { seconds: 600, fallback })),
        ..deployment
    }
}

/// What reading it back from its own text says.
fn reread(deployment: &DeploymentSpec) -> Result<DeploymentSpec, String> {
    let text = serde_json::to_string(deployment).unwrap();
    serde_json::from_str(&text).map_err(|error| error.to_string())
}

#[test]
fn what_a_deployment_looks_like_on_the_wire() {
    let whole = DeploymentSpec {
        services: services([service("app", 2), private("worker", 1)]),
        ..with_fallback(deployment(2), 1, services([service("app", 1), private("worker", 1)]))
    };
    assert_eq!(reread(&whole).as_ref(), Ok(&whole));
    let json = serde_json::to_value(&whole).unwrap();
    assert_eq!(json["services"][0]["name"], "app");
    assert_eq!(json["services"][0]["replicas"], 1);
    assert_eq!(json["auto_rollback"]["fallback"]["revision"], 1);
    assert_eq!(json["auto_rollback"]["fallback"]["services"][1]["name"], "worker");
}

#[test]
fn services_are_refused_with_what_is_wrong() {
    let of = |list: Vec<ServiceSpec>| Services::try_from(list).map(|_| ());
    let worker = ServiceName::parse("worker").unwrap();
    assert_eq!(of(vec![]), Err(ServicesError::Count(0)));
    assert_eq!(of(vec![service("app", 1), service("web", 1)]), Err(ServicesError::Public(2)));
    assert_eq!(of(vec![private("app", 1)]), Err(ServicesError::Public(0)));
    assert_eq!(
        of(vec![service("app", 1), private("worker", 1), private("worker", 1)]),
        Err(ServicesError::Twice(worker))
    );
    for replicas in [0, ServiceSpec::MAX_REPLICAS + 1] {
        let worker = ServiceSpec { replicas, ..private("worker", 1) };
        let refused = of(vec![service("app", 1), worker]).unwrap_err();
        let words = format!("has the service worker with {replicas} replicas; it takes 1 to 12");
        assert_eq!(refused.to_string(), words);
    }
}

#[test]
fn contradicting_parts_are_refused_with_what_is_wrong() {
    let cases = [
        (
            DeploymentSpec { services: services([service("app", 3)]), ..deployment(2) },
            "has the service app of revision 3 in revision 2",
        ),
        (
            with_fallback(deployment(2), 1, services([service("app", 2)])),
            "has the service app of revision 2 in revision 1",
        ),
        (
            with_fallback(deployment(2), 2, services([service("app", 1)])),
            "has its own revision 2 as fallback",
        ),
        (
            with_fallback(
                deployment(2),
                1,
                services([ServiceSpec { digest: None, ..service("app", 1) }]),
            ),
            "has a fallback without a digest for the service app",
        ),
        (
            with_fallback(
                DeploymentSpec { services: services([service("app", 1)]), ..deployment(2) },
                1,
                services([ServiceSpec { spec: spec_digest(2), ..service("app", 1) }]),
            ),
            "has two contents of the service app with the revision 1",
        ),
    ];
    for (deployment, words) in cases {
        let refused = reread(&deployment).unwrap_err();
        let expected = format!("the deployment {} {words}", deployment.id);
        assert!(refused.contains(&expected), "{refused}");
        assert_eq!(deployment.check().unwrap_err().to_string(), expected);
    }
}

/// Services with few names and numbers, so that they often collide.
fn any_services() -> impl Generate<Value = Vec<ServiceSpec>> {
    let name = prop::sample::select(vec!["app", "web", "worker"]);
    let one = (name, any::<bool>(), 0..14_u16, 1..4_u32, 0..2_u8, any::<bool>()).prop_map(
        |(name, public, replicas, revision, spec, resolved)| {
            let service = service(name, revision);
            let digest = service.digest.clone().filter(|_| resolved);
            ServiceSpec { public, replicas, spec: spec_digest(spec), digest, ..service }
        },
    );
    prop::collection::vec(one, 0..4)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    /// Whatever list is accepted can be relied on, and comes back as it was.
    #[test]
    fn accepted_services_hold_what_they_promise(list in any_services()) {
        let publics = list.iter().filter(|service| service.public).count();
        let names: std::collections::BTreeSet<_> = list.iter().map(|s| s.name).collect();
        let valid = publics == 1
            && names.len() == list.len()
            && list.iter().all(|service| (1..=12).contains(&service.replicas));
        let accepted = Services::try_from(list.clone());
        prop_assert_eq!(accepted.is_ok(), valid);
        if let Ok(accepted) = accepted {
            prop_assert!(accepted.public().public);
            prop_assert_eq!(Vec::from(accepted.clone()), &list[..]);
            for service in &list {
                prop_assert_eq!(accepted.get(service.name), Some(service));
                prop_assert_eq!(service.replica_indexes().count(), usize::from(service.replicas));
            }
        }
    }

    /// A deployment is read exactly if its parts fit together, and then unchanged.
    #[test]
    fn a_deployment_is_read_whole_or_not_at_all(
        now in any_services(), then in any_services(), revision in 1..4_u32, fallback in 1..4_u32,
    ) {
        let (Ok(now), Ok(then)) = (Services::try_from(now), Services::try_from(then)) else {
            return Ok(());
        };
        let made_by = |services: &Services, revision| {
            services.iter().all(|service| service.revision <= Revision::new(revision))
        };
        let told_apart = then.iter().all(|old| {
            now.iter().all(|new| {
                (old.name, old.revision) != (new.name, new.revision) || old.spec == new.spec
            })
        });
        let valid = revision != fallback
            && made_by(&now, revision)
            && made_by(&then, fallback)
            && then.iter().all(|service| service.digest.is_some())
            && told_apart;
        let whole = with_fallback(deployment(revision), fallback, then);
        let whole = DeploymentSpec { services: now, ..whole };
        match reread(&whole) {
            Ok(read) => {
                prop_assert!(valid);
                prop_assert_eq!(read, whole);
            }
            Err(error) => prop_assert!(!valid, "{}", error),
        }
    }
}
