use proptest::prelude::*;
use uuid::Uuid;

use super::*;
use crate::testing::ManualClock;

const DAYS: SignedDuration = SignedDuration::from_hours(72);
const MINUTE: SignedDuration = SignedDuration::from_mins(1);

fn host(n: u128) -> HostId {
    HostId::new(Uuid::from_u128(n))
}

fn timekeeper() -> (Arc<ManualClock>, Timekeeper) {
    let clock = Arc::new(ManualClock::at("2026-05-21T10:00:00Z".parse().unwrap()));
    let time = Timekeeper::new(clock.clone());
    (clock, time)
}

#[test]
fn fm_10_elapsed_time_is_trusted_and_a_jump_either_way_is_not() {
    for jump in [DAYS, -DAYS, SignedDuration::from_mins(11), SignedDuration::from_hours(8766)] {
        let (clock, time) = timekeeper();
        clock.advance(SignedDuration::from_hours(400 * 24));
        time.check().unwrap();
        clock.jump(MINUTE);
        time.check().unwrap();
        let right = clock.now();
        clock.jump(jump);
        let doubted = time.check().unwrap_err();
        assert_eq!((doubted.expected, doubted.now), (right, clock.now()));
        // It recovers by itself once the clock is right again.
        clock.advance(MINUTE);
        assert!(time.check().is_err());
        clock.jump(-jump);
        time.check().unwrap();
        clock.jump(jump);
        assert!(time.check().is_err(), "and what was doubted is doubted again");
    }
}

#[test]
fn a_clock_is_trusted_after_an_hour_without_a_further_jump() {
    let (clock, time) = timekeeper();
    clock.jump(DAYS);
    assert!(time.check().is_err());
    clock.advance(SignedDuration::from_mins(59));
    assert!(time.check().is_err());
    // Another jump: the hour starts over.
    clock.jump(DAYS);
    assert!(time.check().is_err());
    for _ in 0..59 {
        clock.advance(MINUTE);
        assert!(time.check().is_err());
    }
    clock.advance(MINUTE);
    time.check().unwrap();
    clock.jump(-DAYS);
    assert!(time.check().is_err(), "from then on it is held against that");
}

#[test]
fn a_majority_of_hosts_can_confirm_the_clock_and_one_alone_cannot() {
    let (clock, time) = timekeeper();
    time.set_hosts(3);
    clock.jump(DAYS);
    assert!(time.check().is_err());
    let now = clock.now();
    assert!(time.wants(host(1)) && !time.heard(host(1), now) && !time.wants(host(1)));
    assert!(!time.heard(host(1), now), "however often it says so");
    assert!(!time.heard(host(2), now - DAYS));
    assert!(time.check().is_err());
    clock.advance(MINUTE);
    assert!(time.heard(host(3), clock.now() - SignedDuration::from_mins(4)));
    time.check().unwrap();
    assert!(!time.wants(host(4)));
}

#[test]
fn host_answers_before_a_jump_do_not_count() {
    let (clock, time) = timekeeper();
    time.set_hosts(1);
    assert!(!time.heard(host(1), clock.now()));
    clock.jump(DAYS);
    assert!(time.check().is_err());
    assert!(!time.heard(host(1), clock.now() - DAYS));
    clock.jump(DAYS);
    assert!(time.check().is_err());
    assert!(time.wants(host(1)));
}

#[test]
fn an_administrator_can_confirm_only_a_past_jump() {
    let (clock, time) = timekeeper();
    time.confirmed(clock.now());
    clock.jump(DAYS);
    assert!(time.check().is_err());
    let before = clock.now() - DAYS;
    for said in [before, clock.now() + DAYS] {
        time.confirmed(said);
        assert!(time.check().is_err(), "{said}");
    }
    time.confirmed(clock.now());
    time.check().unwrap();
    clock.jump(-DAYS);
    time.confirmed(clock.now() + DAYS);
    assert!(time.check().is_err());
}

#[test]
fn at_start_the_clock_is_trusted_within_an_hour_of_the_last_time_seen() {
    for (away, believed) in [(59, true), (61, false), (3 * 24 * 60, false), (-61, false)] {
        let (clock, time) = timekeeper();
        let seen = clock.now() - SignedDuration::from_mins(away);
        time.resume(seen);
        assert_eq!(time.check().is_ok(), believed, "{away} min");
    }
}

proptest! {
    /// However the clock is set: without confirmation, agreement of hosts or an hour without a
    /// jump, a time later than what really passed is not trusted, except for the slack of each
    /// check.
    #[test]
    fn no_sequence_of_jumps_is_trusted_unconfirmed(
        steps in prop::collection::vec((0..50_i64, -100_000..100_000_i64), 1..30),
    ) {
        let (clock, time) = timekeeper();
        let begun = clock.now();
        let (mut passed, mut looks) = (SignedDuration::ZERO, 0);
        for (minutes, jump) in steps {
            clock.advance(SignedDuration::from_mins(minutes));
            passed += SignedDuration::from_mins(minutes);
            clock.jump(SignedDuration::from_secs(jump));
            looks += 1;
            let steady_for_an_hour = passed >= SignedDuration::from_hours(1);
            if time.check().is_ok() && !steady_for_an_hour {
                let ahead = apart(clock.now(), begun + passed);
                prop_assert!(ahead <= SLACK * looks, "{ahead:?} after {looks} looks");
            }
        }
    }
}
