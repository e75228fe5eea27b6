//! The breaker as tables and properties.

use proptest::prelude::*;

use super::*;

fn secs(secs: u64) -> Duration {
    Duration::from_secs(secs)
}

fn config() -> BreakerConfig {
    BreakerConfig::default()
}

fn setback(reason: Reason, trial: bool) -> Setback {
    Setback { reason, trial, wait: None, last: false, jitter: 0 }
}

fn rest_until(health: &Health) -> Instant {
    match health.standing() {
        Standing::Open { until } => until,
        other => panic!("{other:?}"),
    }
}

#[test]
fn failures_in_a_row_open_and_a_success_between_forgives() {
    let (now, mut health) = (Instant::now(), Health::default());
    for _ in 0..2 {
        health.failed(now, &setback(Reason::Timeout, false), &config());
    }
    health.delivered(now);
    for _ in 0..2 {
        health.failed(now, &setback(Reason::Cut, false), &config());
    }
    assert_eq!(health.standing(), Standing::Closed);
    health.failed(now, &setback(Reason::Unavailable, false), &config());
    assert_eq!(rest_until(&health), now + secs(1));
}

#[test]
fn wrong_bytes_and_back_off_open_at_once_and_absence_never() {
    for (reason, rest) in [
        (Reason::Corrupt, Some(secs(20))),
        (Reason::Changed, Some(secs(20))),
        (Reason::Throttled, Some(Duration::from_millis(200))),
        (Reason::Timeout, None),
    ] {
        let (now, mut health) = (Instant::now(), Health::default());
        health.failed(now, &setback(reason, false), &config());
        let expected = rest.map_or(Standing::Closed, |rest| Standing::Open { until: now + rest });
        assert_eq!(health.standing(), expected, "{reason:?}");
    }
    let (now, mut health) = (Instant::now(), Health::default());
    for _ in 0..100 {
        health.failed(now, &setback(Reason::NotFound, false), &config());
        health.failed(now, &setback(Reason::Unsupported, false), &config());
    }
    assert_eq!((health.standing(), health.failures()), (Standing::Closed, 0));
}

#[test]
fn one_trial_at_a_time_and_each_failed_one_rests_longer() {
    let (mut now, mut health) = (Instant::now(), Health::default());
    for _ in 0..3 {
        health.failed(now, &setback(Reason::Timeout, false), &config());
    }
    for rest in [2, 4, 8] {
        assert!(!health.begin(now), "still resting");
        now = rest_until(&health);
        assert!(health.begin(now), "the trial");
        assert!(!health.begin(now), "only one");
        health.failed(now, &setback(Reason::Timeout, true), &config());
        assert_eq!(rest_until(&health), now + secs(rest));
    }
    now = rest_until(&health);
    assert!(health.begin(now));
    health.abandoned(now, true);
    assert!(health.begin(now), "a dropped trial leaves room for the next");
    health.delivered(now);
    assert_eq!(health.standing(), Standing::Closed);
}

#[test]
fn a_relapse_soon_after_recovery_rests_longer_a_late_one_does_not() {
    for (later, rest) in [(secs(10), secs(2)), (secs(60), secs(1))] {
        let (now, mut health) = (Instant::now(), Health::default());
        let fail = |health: &mut Health, at| {
            (0..3).for_each(|_| health.failed(at, &setback(Reason::Timeout, false), &config()));
        };
        fail(&mut health, now);
        let up = rest_until(&health);
        assert!(health.begin(up));
        health.delivered(up);
        fail(&mut health, up + later);
        assert_eq!(rest_until(&health), up + later + rest);
    }
}

#[test]
fn stragglers_of_one_outage_do_not_prolong_it() {
    let (now, mut health) = (Instant::now(), Health::default());
    for _ in 0..50 {
        health.failed(now, &setback(Reason::Timeout, false), &config());
    }
    assert_eq!(rest_until(&health), now + secs(1));
    health.failed(now, &setback(Reason::Corrupt, false), &config());
    assert!(rest_until(&health) >= now + secs(20), "worse news does");
}

#[test]
fn too_many_failures_of_late_open_but_not_the_last_one() {
    let mixed = |last: bool, percent: u32| {
        let (now, mut health) = (Instant::now(), Health::default());
        for nth in 0..100 {
            let at = now + Duration::from_millis(nth * 40);
            if nth % 100 < u64::from(percent) && nth % 2 == 0 || nth % 2 == 1 && percent > 50 {
                health.failed(at, &Setback { last, ..setback(Reason::Cut, false) }, &config());
            } else {
                health.delivered(at);
            }
        }
        (health.standing(), health.failed_percent(now + secs(4)))
    };
    assert_eq!(mixed(false, 20), (Standing::Closed, Some(10)));
    assert_eq!(mixed(true, 60), (Standing::Closed, Some(80)), "the last one in use goes on");
    assert!(matches!(mixed(false, 60), (Standing::Open { .. }, _)));
}

#[test]
fn what_was_is_forgotten_after_ten_seconds() {
    let (now, mut health) = (Instant::now(), Health::default());
    (0..2).for_each(|_| health.failed(now, &setback(Reason::Cut, false), &config()));
    assert_eq!(health.failed_percent(now + secs(4)), Some(100));
    assert_eq!(health.failed_percent(now + secs(10)), None);
}

#[test]
fn who_asks_for_time_gets_it_within_reason() {
    for (wait, rest) in [(None, 200), (Some(100), 200), (Some(3_000), 3_000), (Some(3_600_000), 10_000)] {
        let (now, mut health) = (Instant::now(), Health::default());
        let wait = wait.map(Duration::from_millis);
        health.failed(now, &Setback { wait, ..setback(Reason::Throttled, false) }, &config());
        assert_eq!(rest_until(&health), now + Duration::from_millis(rest));
    }
}

#[test]
fn once_overtaken_is_chance_and_always_is_not() {
    let (now, mut health) = (Instant::now(), Health::default());
    for _ in 0..config().overtaken - 1 {
        health.overtaken(now, false, 0, &config());
    }
    assert_eq!(health.standing(), Standing::Closed);
    health.saw_first_byte(now, secs(1));
    health.overtaken(now, false, 0, &config());
    assert_eq!(health.standing(), Standing::Closed, "it answered in between");
    for _ in 0..config().overtaken {
        health.overtaken(now, false, 0, &config());
    }
    assert_eq!(rest_until(&health), now + secs(1));
    (0..99).for_each(|_| health.overtaken(now, false, 0, &config()));
    assert_eq!(rest_until(&health), now + secs(1), "stragglers do not prolong it");
    assert!(health.begin(now + secs(1)));
    health.overtaken(now + secs(1), true, 0, &config());
    assert_eq!(rest_until(&health), now + secs(3), "a trial that is overtaken failed");
}

#[test]
fn patience_follows_what_was_seen_within_its_bounds() {
    let (now, config) = (Instant::now(), SourcingConfig::default());
    let millis = Duration::from_millis;
    let patience = |first_byte: u64, pause: u64, times: u32| {
        let mut health = Health::default();
        for _ in 0..times {
            health.saw_first_byte(now, millis(first_byte));
            health.saw_body(now, millis(pause), None);
        }
        health.patience(&config)
    };
    let unknown = Patience { first_byte: millis(800), stall: millis(800), hedge: millis(250) };
    assert_eq!(patience(0, 0, 0), unknown);
    assert_eq!(patience(10, 1, 7), unknown, "too few to be impatient");
    let fast = patience(2, 1, 100);
    assert_eq!((fast.first_byte, fast.stall, fast.hedge), (millis(300), millis(300), millis(20)));
    let usual = patience(100, 100, 100);
    assert!(usual.first_byte >= millis(400) && usual.first_byte <= millis(500), "{usual:?}");
    assert!(usual.hedge >= millis(150) && usual.hedge <= millis(188), "{usual:?}");
    let slow = patience(5_000, 5_000, 3);
    assert_eq!((slow.first_byte, slow.stall), (config.first_byte_timeout, config.stall_timeout));
}

#[test]
fn probes_are_due_when_nobody_else_asks() {
    let (now, idle) = (Instant::now(), secs(30));
    let mut health = Health::default();
    let later = now + secs(5);
    assert_eq!(health.probe_due(now, later, idle), Some(now + idle), "never asked");
    health.delivered(now);
    assert_eq!(health.probe_due(now, later, idle), Some(now + idle));
    assert_eq!(health.probe_due(now, now, idle), None, "nothing was bought since");
    assert_eq!(health.probe_due(now, later, Duration::ZERO), None);
    health.failed(now, &setback(Reason::Cut, false), &config());
    assert_eq!(health.probe_due(now, later, idle), Some(now + secs(1)), "in doubt");
    (0..2).for_each(|_| health.failed(now, &setback(Reason::Cut, false), &config()));
    assert_eq!(health.probe_due(now, later, idle), Some(rest_until(&health)));
    health.failed(now, &setback(Reason::Corrupt, false), &config());
    assert_eq!(
        (health.probe_due(now, later, idle), health.is_distrusted()),
        (None, true),
        "bytes must be checked"
    );
}

#[test]
fn slowness_is_forgotten_without_new_evidence() {
    let (now, mut health) = (Instant::now(), Health::default());
    let config = SourcingConfig::default();
    health.saw_first_byte(now, secs(3));
    assert!(health.is_slow(now, &config));
    assert!(!health.is_slow(now + config.slow_for, &config));
    (0..6).for_each(|_| health.saw_first_byte(now, Duration::from_millis(10)));
    assert!(!health.is_slow(now, &config));
}

proptest! {
    #[test]
    fn no_rest_exceeds_the_cap_and_its_jitter(before in any::<u32>(), jitter in any::<u16>()) {
        let config = config();
        for first in [config.open_for, config.throttled_for, config.corrupt_for] {
            let rest = rest_of(first, before, jitter, &config);
            prop_assert!(rest >= first);
            let most = config.longest.max(first);
            prop_assert!(rest <= most + most * config.jitter_percent / 100);
        }
    }

    #[test]
    fn whatever_happens_a_trial_comes_within_the_cap(
        events in proptest::collection::vec((0u8..5, 0usize..9, 0u64..100_000), 1..80)
    ) {
        let (config, mut now, mut health, mut trial) = (config(), Instant::now(), Health::default(), false);
        for (event, reason, wait_ms) in events {
            now += Duration::from_millis(wait_ms);
            match event {
                0 if !trial => trial = health.begin(now),
                1 => { health.delivered(now); trial = false; }
                2 | 3 => { health.failed(now, &Setback { jitter: 7, ..setback(Reason::ALL[reason], trial) }, &config); trial = false; }
                _ => { health.abandoned(now, trial); trial = false; }
            }
        }
        if let Standing::Open { until } = health.standing() {
            prop_assert!(until <= now + config.longest.max(config.corrupt_for) * 2);
        }
        prop_assert_eq!(health.standing() == Standing::HalfOpen, trial);
    }
}
