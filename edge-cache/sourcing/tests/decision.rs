//! A decision allocates nothing. The counting allocator is this binary's own, so it counts nobody else.

use std::time::Duration;

use sourcing::health::Standing;
use sourcing::planner::{Asking, Candidate, Need, Plan};
use sourcing::tariff::Rate;
use sourcing::{MAX_SOURCES, Price};
use tokio::time::Instant;

const SEGMENT: u64 = 4_000_000;

/// Sources of all kinds: dear and cheap, slow and fast, resting, tried.
fn candidates(count: usize, now: Instant) -> Vec<Candidate> {
    let candidate = |at: usize| {
        let price =
            Price { picodollars_per_byte: (at as u64 * 37) % 11 * 9, picodollars_per_request: 400_000 };
        Candidate {
            asking: Asking { byte: Rate::picodollars(price.picodollars_per_byte), ..price.into() },
            standing: match at % 7 {
                3 => Standing::Open { until: now + Duration::from_secs(at as u64) },
                5 => Standing::HalfOpen,
                _ => Standing::Closed,
            },
            first_byte: Some(Duration::from_millis((at as u64 * 53) % 300)),
            pace: (at % 5 != 2).then_some(at as u64 * 1_000_000),
            slow: at % 13 == 4,
            favourite: at == 1,
            rests: 0,
            throttled: false,
            tried: at % 17 == 2,
            absent: at % 19 == 6,
        }
    };
    (0..count).map(candidate).collect()
}

#[test]
fn a_decision_allocates_nothing() {
    for count in [1, 3, 8, 64, MAX_SOURCES] {
        let now = Instant::now();
        let (candidates, mut plan) = (candidates(count, now), Plan::with_capacity(count));
        let counted = allocation_counter::measure(|| {
            for len in [1, 64 * 1024, SEGMENT, u64::MAX] {
                for within in [None, Some(Duration::from_millis(500))] {
                    plan.decide(now, &candidates, Need { len, within });
                }
            }
        });
        assert_eq!((counted.count_total, counted.bytes_total), (0, 0), "{count} sources");
        assert!(!plan.choices().is_empty());
    }
    let counted = allocation_counter::measure(|| drop(Plan::with_capacity(3)));
    assert_ne!(counted.count_total, 0, "the allocator counts");
}
