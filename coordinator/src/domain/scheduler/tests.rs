use proptest::prelude::*;
use uuid::Uuid;

use super::*;

const OPEN: Availability = Availability::Open;

fn app(memory_mb: u64) -> Demand {
    Demand { memory_mb, env_bytes: 0 }
}

fn host(n: u128, budget_mb: u64, availability: Availability) -> Candidate {
    let id = HostId::new(Uuid::from_u128(n));
    let load = Load::default();
    Candidate { id, budget_mb, load, account_env_bytes: 0, availability }
}

/// The same host with apps of these sizes on it.
fn with(host: Candidate, apps: &[u64]) -> Candidate {
    let load = apps.iter().fold(host.load, |load, mb| load.with(app(*mb)));
    Candidate { load, ..host }
}

#[test]
fn a_hosts_document_stays_within_the_size_limit() {
    let mut nearly = host(1, 9000, OPEN);
    nearly.load.env_bytes = MAX_ENV_BYTES - 10;
    let smaller = host(2, 1000, OPEN);
    let env = |env_bytes| Demand { memory_mb: 256, env_bytes };
    let nearly = Candidate { load: Load { containers: 1, ..nearly.load }, ..nearly };
    assert_eq!(place(env(10), &[nearly, smaller]), Ok(nearly.id));
    assert_eq!(place(env(11), &[nearly, smaller]), Ok(smaller.id));
    assert_eq!(place(env(11), &[nearly]), Err(NoRoom::Environment(11)));
    // Many apps without environments fill a document too.
    let mut crowded = host(3, 90_000_000, OPEN);
    let most = MAX_DOCUMENT_BYTES / crate::domain::capacity::DESIRED_BYTES;
    crowded.load.containers = most - 1;
    assert_eq!(place(env(0), &[crowded]), Ok(crowded.id));
    crowded.load.containers = most;
    assert_eq!(place(env(0), &[crowded]), Err(NoRoom::Document));
    // In base64, with what automatic rollbacks add.
    let all = MAX_DOCUMENT_BYTES + MAX_FALLBACK_BYTES * 4 / 3;
    assert!(usize::try_from(all).unwrap() * 4 / 3 < buddo_shared::host_wire::signed::MAX_ENVELOPE);
}

#[test]
fn an_accounts_share_of_a_host_is_bounded() {
    let env = |env_bytes| Demand { memory_mb: 256, env_bytes };
    let mine = Candidate { account_env_bytes: MAX_ACCOUNT_ENV_BYTES - 10, ..host(1, 9000, OPEN) };
    let other = host(2, 2000, OPEN);
    assert_eq!(place(env(10), &[mine, other]), Ok(mine.id));
    assert_eq!(place(env(11), &[mine, other]), Ok(other.id));
    assert_eq!(place(env(11), &[mine]), Err(NoRoom::Share { env_bytes: 11 }));
    // An app without an environment uses no share.
    let over = Candidate { account_env_bytes: MAX_ACCOUNT_ENV_BYTES + 1, ..mine };
    assert_eq!(place(env(0), &[over]), Ok(over.id));
}

#[test]
fn a_host_keeps_room_for_helpers_and_an_update_of_its_largest_app() {
    // 2 × 256, and one of them twice; plus 4 × 3.2 MB.
    let full = with(host(1, 1024, OPEN), &[256, 256]);
    assert_eq!(place(app(256), &[full]), Err(NoRoom::Memory { needed: 256, free: 243 }));
    let roomier = Candidate { budget_mb: 1024 + 13, ..full };
    assert_eq!(place(app(256), &[roomier]), Ok(roomier.id));
    // A large one has to fit twice.
    let empty = host(2, 1000, OPEN);
    assert!(place(app(500), &[empty]).is_err());
    assert!(place(app(496), &[empty]).is_ok());
}

#[test]
fn fm_69_lost_locked_or_drained_hosts_get_no_new_apps() {
    for why in [Closed::Lost, Closed::Locked, Closed::Drained, Closed::Short, Closed::Unknown] {
        let closed = host(1, 90_000, Availability::Closed(why));
        let small = host(2, 1000, OPEN);
        assert_eq!(place(app(256), &[closed, small]), Ok(small.id), "{why:?}");
        assert!(matches!(place(app(256), &[closed]), Err(NoRoom::NoHost(_))), "{why:?}");
        // And the refusal does not name its memory.
        let refused = place(app(2000), &[closed, small]).unwrap_err();
        assert!(matches!(refused, NoRoom::Memory { free: ..1000, .. }), "{refused}");
    }
}

#[test]
fn refusals_say_what_is_missing() {
    let none = place(app(256), &[]).unwrap_err();
    assert!(none.to_string().contains("none has joined"), "{none}");
    let closed = |n, why| host(n, 9000, Availability::Closed(why));
    let hosts = [closed(1, Closed::Lost), closed(2, Closed::Lost), closed(3, Closed::Locked)];
    let words = place(app(256), &hosts).unwrap_err().to_string();
    assert!(words.contains("(1 locked, 2 not reached for an hour)"), "{words}");
}

#[test]
fn an_unreachable_host_is_the_last_resort() {
    let hosts = [host(1, 8000, Availability::Away), host(2, 1000, OPEN)];
    assert_eq!(place(app(256), &hosts), Ok(hosts[1].id));
    assert_eq!(place(app(2000), &hosts), Ok(hosts[0].id));
}

fn any_availability() -> impl Strategy<Value = Availability> {
    prop_oneof![
        4 => Just(OPEN),
        1 => Just(Availability::Away),
        1 => Just(Availability::Closed(Closed::Lost)),
        1 => Just(Availability::Closed(Closed::Locked)),
        1 => Just(Availability::Closed(Closed::Drained)),
    ]
}

fn any_hosts() -> impl Strategy<Value = Vec<Candidate>> {
    let apps = prop::collection::vec(1..1024u64, 0..6);
    let one = (any::<u128>(), 0..8192u64, apps, any_availability());
    let one = one.prop_map(|(n, budget, apps, up)| with(host(n, budget, up), &apps));
    prop::collection::vec(one, 0..8)
}

proptest! {
    #[test]
    fn a_host_is_chosen_exactly_if_one_fits(hosts in any_hosts(), needed in 1..4096u64) {
        let demand = app(needed);
        // The same condition, spelled out: all limits, the largest twice, one helper per container.
        let fits = |host: &&Candidate| {
            let largest = host.load.largest_mb.max(needed);
            let helpers = (host.load.containers + 2) * 3277;
            let all_kib = (host.load.reserved_mb + needed + largest) * 1024 + helpers;
            let closed = matches!(host.availability, Availability::Closed(_));
            !closed && all_kib <= host.budget_mb * 1024
        };
        let fitting: Vec<_> = hosts.iter().filter(fits).collect();
        let Ok(id) = place(demand, &hosts) else {
            prop_assert!(fitting.is_empty());
            return Ok(());
        };
        let chosen = fitting.iter().find(|host| host.id == id);
        prop_assert!(chosen.is_some());
        let is_away = chosen.unwrap().availability == Availability::Away;
        let better = |host: &&&Candidate| host.availability == OPEN && is_away;
        prop_assert_eq!(fitting.iter().filter(better).count(), 0);
    }

    /// However many apps arrive one after another, no host is promised more than it has.
    #[test]
    fn no_host_is_filled_beyond_its_budget(
        mut hosts in any_hosts(),
        apps in prop::collection::vec(1..2048u64, 0..60),
    ) {
        let before: Vec<_> = hosts.iter().map(|host| host.load).collect();
        for needed in apps {
            let Ok(id) = place(app(needed), &hosts) else { continue };
            let chosen = hosts.iter_mut().find(|host| host.id == id).unwrap();
            chosen.load = chosen.load.with(app(needed));
        }
        for (host, before) in hosts.iter().zip(before) {
            prop_assert!(host.load == before || host.load.memory_mb() <= host.budget_mb);
        }
    }

    /// The size a refusal offers does fit, and one MiB more does not.
    #[test]
    fn a_refusal_names_the_largest_size_that_fits(hosts in any_hosts()) {
        if let Err(NoRoom::Memory { free, .. }) = place(app(100_000), &hosts) {
            prop_assert!(free == 0 || place(app(free), &hosts).is_ok());
            prop_assert!(place(app(free + 1), &hosts).is_err());
        }
    }

    #[test]
    fn the_order_of_hosts_does_not_matter(mut hosts in any_hosts(), needed in 1..4096u64) {
        let first = place(app(needed), &hosts);
        hosts.reverse();
        prop_assert_eq!(first, place(app(needed), &hosts));
    }
}
