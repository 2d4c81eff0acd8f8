use jiff::Timestamp;
use proptest::prelude::{Just, any, prop, prop_assert, prop_assert_eq, prop_oneof, proptest};
use proptest::sample::Index;
use proptest::strategy::Strategy as Generator;
use uuid::Uuid;

use super::*;
use crate::domain::failure::Failure;
use crate::domain::revision::RevisionRecord;

const NAMES: [&str; 3] = ["app", "cache", "db"];

fn id() -> DeploymentId {
    DeploymentId::new(Uuid::from_u128(1))
}

fn digest(n: u32) -> Digest {
    Digest::parse(&format!("sha256:{n:064x}")).unwrap()
}

fn service(name: &str) -> Service {
    Service {
        name: name.parse().unwrap(),
        introduced: Revision::FIRST,
        replicas: NonZeroU16::MIN,
        image: ImageReference::parse("ghcr.io/a/b:1").unwrap(),
        digest: None,
        port: Port::DEFAULT,
        probe: Probe::default(),
        strategy: Strategy::Rolling,
    }
}

#[test]
fn a_name_is_there_once_and_no_host_gets_more_than_it_takes() {
    let app = || service("app");
    let refused = |internal| Services::new(app(), internal).unwrap_err().to_string();
    let twice = "has two services with the name";
    assert!(refused(vec![app()]).starts_with(twice));
    assert!(refused(vec![service("db"), service("a"), service("db")]).starts_with(twice));
    let many = |n| (0..n).map(|n| service(&format!("s{n}"))).collect();
    assert!(Services::new(app(), many(manifest::Services::MAX - 1)).is_ok());
    assert!(refused(many(manifest::Services::MAX)).starts_with("has 17 services"));
    let replicas = NonZeroU16::new(ServiceSpec::MAX_REPLICAS + 1).unwrap();
    let words = refused(vec![Service { replicas, ..service("db") }]);
    assert!(words.starts_with(&format!("has {replicas} replicas of the service db")), "{words}");
}

#[test]
fn what_was_stored_is_checked_when_it_is_read_back() {
    let services = Services::new(service("app"), vec![service("db"), service("cache")]).unwrap();
    let names: Vec<_> = services.iter().map(|service| service.name.to_string()).collect();
    assert_eq!(names, ["app", "cache", "db"], "the public one, and the others by name");
    let json = serde_json::to_value(&services).unwrap();
    assert_eq!(serde_json::from_value::<Services>(json.clone()).unwrap(), services);
    let mut twice = json;
    twice["internal"][0] = twice["internal"][1].clone();
    assert!(serde_json::from_value::<Services>(twice).is_err());
}

#[test]
fn content_is_what_a_container_is_started_and_judged_by() {
    let (app, env) = (service("app"), Secret::new(r#"{"KEY":"v"}"#));
    let of = |service: &Service, env: Option<&Secret>| service.content(id(), env).to_vec();
    let content = of(&app, Some(&env));
    let same = Service {
        introduced: Revision::new(7),
        replicas: NonZeroU16::new(3).unwrap(),
        digest: Some(digest(1)),
        ..app.clone()
    };
    assert_eq!(of(&same, Some(&env)), content);
    let others = [
        of(&service("db"), Some(&env)),
        of(
            &Service { image: ImageReference::parse("ghcr.io/a/b:2").unwrap(), ..app.clone() },
            Some(&env),
        ),
        of(&Service { port: Port::try_from(81).unwrap(), ..app.clone() }, Some(&env)),
        of(&Service { strategy: Strategy::Recreate, ..app.clone() }, Some(&env)),
        of(
            &Service { probe: Probe { unhealthy_after: 9, ..app.probe.clone() }, ..app.clone() },
            Some(&env),
        ),
        of(&app, Some(&Secret::new(r#"{"KEY":"w"}"#))),
        of(&app, Some(&Secret::new(""))),
        of(&app, None),
        app.content(DeploymentId::new(Uuid::from_u128(2)), Some(&env)).to_vec(),
    ];
    for (n, other) in others.iter().enumerate() {
        assert_ne!(*other, content, "{n}");
        assert!(!others[..n].contains(other), "{n}");
    }
}

/// An act on a deployment of several services.
#[derive(Debug, Clone)]
enum HistoryStep {
    /// Everything starts again, tags resolved again.
    Restart,
    /// To another host.
    Move,
    /// New content of some services, by name; one that was not there is added.
    Change(Vec<(usize, u8)>),
    /// A service less.
    Remove(usize),
    /// Back to an earlier revision.
    Rollback(Index),
    /// Its host finds out what a tag means, which moves.
    Resolve(usize, u32),
    /// Its host gives up on the current revision.
    GiveUp,
}

fn act() -> impl Generator<Value = HistoryStep> {
    let name = || 0..NAMES.len();
    prop_oneof![
        1 => Just(HistoryStep::Restart),
        1 => Just(HistoryStep::Move),
        4 => prop::collection::vec((name(), 0..4u8), 1..3).prop_map(HistoryStep::Change),
        1 => (1..NAMES.len()).prop_map(HistoryStep::Remove),
        4 => any::<Index>().prop_map(HistoryStep::Rollback),
        4 => (name(), 0..3u32).prop_map(|(name, n)| HistoryStep::Resolve(name, n)),
        1 => Just(HistoryStep::GiveUp),
    ]
}

/// Stands for the environment: what it is made of is the same for both.
fn specs(services: &Services) -> Specs {
    let of = |service: &Service| {
        let content = service.content(id(), None);
        let mut bytes = [0u8; 32];
        // Without a key, and short: that is enough to tell a few contents apart.
        for (n, byte) in content.iter().enumerate() {
            bytes[n % 32] = bytes[n % 32].wrapping_mul(31).wrapping_add(*byte);
        }
        SpecDigest::from_bytes(&bytes)
    };
    services.iter().map(|service| (service.name, of(service))).collect()
}

fn with_image(service: Service, n: u8) -> Service {
    Service { image: ImageReference::parse(&format!("ghcr.io/a/b:{n}")).unwrap(), ..service }
}

proptest! {
    /// A service gets a new number exactly where its content changes, or all of it is to start
    /// again. And a number never means two contents, whatever happened before: hosts rely on it.
    #[test]
    fn a_number_changes_exactly_where_the_content_does(acts in prop::collection::vec(act(), 1..30)) {
        let at = Timestamp::UNIX_EPOCH;
        let mut history = vec![RevisionRecord {
            number: Revision::FIRST,
            services: Services::single(service("app")),
            domains: Vec::new(),
            rollback_of: None,
            created_at: at,
            live_at: Some(at),
            failure: None,
        }];
        for act in acts {
            let current = history.last().unwrap().clone();
            let number = current.number.next().unwrap();
            let of = specs(&current.services);
            let (next, all) = match &act {
                HistoryStep::Restart => {
                    let again = current.again(number, at);
                    let services = again.services.unresolved();
                    (RevisionRecord { services, ..again }, true)
                }
                HistoryStep::Move => (current.again(number, at), true),
                HistoryStep::Change(changes) => {
                    let mut asked: BTreeMap<_, _> =
                        current.services.unresolved().iter().map(|s| (s.name, s.clone())).collect();
                    for &(name, n) in changes {
                        let name = NAMES[name];
                        let of_before = asked.remove(&name.parse().unwrap());
                        // As an operator asks for it: the number is not theirs to choose.
                        let changed = with_image(of_before.unwrap_or_else(|| service(name)), n);
                        let introduced = Revision::new(u32::MAX);
                        let changed = Service { introduced, ..changed };
                        asked.insert(changed.name, changed);
                    }
                    let public = asked.remove(&ServiceName::APP).unwrap();
                    let services = Services::new(public, asked.into_values().collect()).unwrap();
                    let asked = RevisionRecord { services, ..current.clone() };
                    let next =
                        asked.instead_of(&specs(&asked.services), (&current, &of), number, at);
                    (next, current.failure.is_some())
                }
                HistoryStep::Remove(name) => {
                    let name: ServiceName = NAMES[*name].parse().unwrap();
                    let left = current.services.iter().skip(1).filter(|s| s.name != name);
                    let public = current.services.public().clone();
                    let services = Services::new(public, left.cloned().collect()).unwrap();
                    let asked = RevisionRecord { services, ..current.clone() };
                    let next =
                        asked.instead_of(&specs(&asked.services), (&current, &of), number, at);
                    (next, current.failure.is_some())
                }
                HistoryStep::Rollback(index) => {
                    let source = &history[index.index(history.len())];
                    if !source.past().can_return() {
                        continue;
                    }
                    let specs = specs(&source.services);
                    let next = source.instead_of(&specs, (&current, &of), number, at);
                    for (old, new) in source.services.iter().zip(next.services.iter()) {
                        prop_assert_eq!((old.name, &old.digest), (new.name, &new.digest));
                    }
                    (next, current.failure.is_some())
                }
                HistoryStep::Resolve(name, n) => {
                    let name: ServiceName = NAMES[*name].parse().unwrap();
                    let Some(found) = current.services.get(name) else { continue };
                    // As the database does it: for all revisions with this content, once.
                    for past in &mut history {
                        past.services = past.services.map(|s| {
                            let is_it = (s.name, s.introduced) == (name, found.introduced);
                            let unknown = is_it && s.digest.is_none();
                            let digest = if unknown { Some(digest(*n)) } else { s.digest.clone() };
                            Service { digest, ..s.clone() }
                        });
                    }
                    continue;
                }
                HistoryStep::GiveUp => {
                    history.last_mut().unwrap().failure = Some(Failure::new("x", "x", "x"));
                    continue;
                }
            };
            prop_assert_eq!(next.number, number);
            let asked = specs(&next.services);
            for new in next.services.iter() {
                let old = current.services.get(new.name);
                let is_same = old.is_some_and(|old| {
                    asked[&new.name] == of[&old.name] && new.digest == old.digest
                });
                let expected = old.filter(|_| is_same && !all).map_or(number, |old| old.introduced);
                prop_assert_eq!(new.introduced, expected, "{:?} in {:?}", new, &act);
            }
            history.push(RevisionRecord { live_at: Some(at), ..next });
            let mut meanings = BTreeMap::new();
            for past in &history {
                let of = specs(&past.services);
                for s in past.services.iter() {
                    prop_assert!(s.introduced <= past.number);
                    let meaning = (of[&s.name].clone(), s.digest.clone());
                    let known = meanings.entry((s.name, s.introduced)).or_insert(meaning.clone());
                    prop_assert_eq!(&*known, &meaning, "{} of {}", s.name, s.introduced);
                }
            }
        }
    }
}
