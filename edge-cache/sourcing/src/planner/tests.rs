//! The order as tables and properties.

use proptest::prelude::*;

use super::*;

const MB: u64 = 1_000_000;

fn at(price: u64, latency_ms: u64) -> Candidate {
    let asking = Asking { byte: Rate::picodollars(price), request: Rate::ZERO };
    Candidate { first_byte: Some(Duration::from_millis(latency_ms)), ..Candidate::new(asking) }
}

fn open(now: Instant, rest_secs: u64) -> Standing {
    Standing::Open { until: now + Duration::from_secs(rest_secs) }
}

fn check(candidates: &[Candidate], expected: &[(usize, ChoiceReason)]) {
    let now = Instant::now();
    let plan = plan(now, candidates, Need::bytes(MB));
    let plan: Vec<_> = plan.into_iter().map(|choice| (choice.index, choice.reason)).collect();
    assert_eq!(plan, expected);
}

#[test]
fn by_price_then_by_latency_among_equals() {
    use ChoiceReason::{Again, Cheapest, Dearer, Faster, Slow, Steady};
    check(&[], &[]);
    check(&[at(85, 10), at(0, 90), at(20, 50)], &[(1, Cheapest), (2, Dearer), (0, Dearer)]);
    check(&[at(100, 50), at(104, 10)], &[(1, Faster), (0, Cheapest)]);
    check(&[at(100, 50), at(106, 10)], &[(0, Cheapest), (1, Dearer)]);
    let steady = Candidate { favourite: true, ..at(104, 60) };
    check(&[at(100, 50), steady], &[(1, Steady), (0, Cheapest)]);
    check(&[at(100, 40), steady], &[(0, Cheapest), (1, Dearer)]);
    let slow = Candidate { slow: true, ..at(0, 3_000) };
    check(&[slow, at(85, 10)], &[(1, Cheapest), (0, Slow)]);
    let tried = Candidate { tried: true, ..at(0, 10) };
    check(&[tried, slow, at(85, 10)], &[(2, Cheapest), (1, Slow), (0, Again)]);
    let absent = Candidate { absent: true, ..at(0, 10) };
    check(&[absent], &[]);
}

#[test]
fn the_request_price_counts_for_small_wants() {
    let per_request = Price { picodollars_per_byte: 1, picodollars_per_request: 400_000 };
    let requests = Candidate { asking: per_request.into(), ..at(0, 10) };
    let first = |len| plan(Instant::now(), &[requests, at(2, 10)], Need::bytes(len))[0].index;
    assert_eq!((first(1_000), first(10_000_000)), (1, 0));
}

#[test]
fn who_is_in_a_hurry_passes_over_those_too_late() {
    use ChoiceReason::{Cheapest, Dearer, InTime, Late};
    // A second for a megabyte, and a tenth of it.
    let (cheap, dear) =
        (Candidate { pace: Some(MB), ..at(10, 50) }, Candidate { pace: Some(10 * MB), ..at(85, 20) });
    let order = |within: u64, candidates: &[Candidate]| -> Vec<_> {
        let need = Need { len: MB, within: Some(Duration::from_millis(within)) };
        plan(Instant::now(), candidates, need)
            .into_iter()
            .map(|choice| (choice.index, choice.reason))
            .collect()
    };
    assert_eq!(order(2_000, &[cheap, dear]), [(0, Cheapest), (1, Dearer)], "both in time");
    assert_eq!(order(500, &[cheap, dear]), [(1, InTime), (0, Late)]);
    assert_eq!(order(0, &[cheap, dear]), [(1, Late), (0, Late)], "nobody: the fastest first");
    assert_eq!(
        order(0, &[dear, Candidate { asking: at(20, 0).asking, ..dear }]),
        [(1, Late), (0, Late)],
        "equals by price"
    );
    let unknown = Candidate { first_byte: None, pace: None, ..cheap };
    assert_eq!(order(0, &[dear, unknown]), [(1, Cheapest), (0, Late)], "the unknown gets its chance");
    let resting = Candidate { standing: open(Instant::now(), 9), ..dear };
    assert_eq!(order(0, &[cheap, resting])[0], (0, Late), "haste makes nobody well");
}

#[test]
fn resting_sources_are_left_alone_but_the_last_one_never_is() {
    use ChoiceReason::{Dearer, LastResort, Trial};
    let now = Instant::now();
    let resting = |secs| Candidate { standing: open(now, secs), ..at(0, 10) };
    let plan = |candidates: &[Candidate]| -> Vec<_> {
        plan(now, candidates, Need::bytes(MB))
            .into_iter()
            .map(|choice| (choice.index, choice.reason))
            .collect()
    };
    assert_eq!(
        plan(&[resting(9), resting(3), at(85, 10)])[..],
        [(2, ChoiceReason::Cheapest), (1, LastResort)]
    );
    assert_eq!(plan(&[resting(9), resting(3)])[..], [(1, LastResort)]);
    assert_eq!(plan(&[resting(0), at(85, 10)])[..], [(0, Trial), (1, Dearer)]);
    let trial = Candidate { standing: Standing::HalfOpen, ..at(0, 10) };
    assert_eq!(plan(&[trial])[..], [(0, LastResort)]);
    let failed = Candidate { tried: true, ..resting(3) };
    assert_eq!(plan(&[failed, resting(9)])[..], [(1, LastResort)]);
    assert_eq!(plan(&[failed]), []);
    let end = |secs| Some(now + Duration::from_secs(secs));
    let ends = |candidates: &[Candidate]| {
        rest_ends(candidates, now + Duration::from_secs(3), now + Duration::from_secs(9))
    };
    assert_eq!(ends(&[failed, resting(3), at(85, 10)]), end(3));
    assert_eq!(ends(&[resting(4)]), None, "too long for one that is broken");
    assert_eq!(ends(&[Candidate { throttled: true, ..resting(9) }]), end(9));
    assert_eq!(ends(&[Candidate { throttled: true, ..resting(10) }, failed, at(85, 10)]), None);
    let hopeless = Candidate { rests: 5, ..resting(3) };
    assert_eq!(plan(&[hopeless, resting(9)])[..], [(1, LastResort)], "the one that rests for the first time");
}

prop_compose! {
    fn candidate(now: Instant)(
        price in 0u64..200, standing in 0u8..4, latency in proptest::option::of(0u64..5_000),
        flags in any::<[bool; 4]>()
    ) -> Candidate {
        let [slow, favourite, tried, absent] = flags;
        let standing = match standing {
            0 => Standing::HalfOpen,
            1 => Standing::Open { until: now + Duration::from_millis(price) },
            2 => Standing::Open { until: now },
            _ => Standing::Closed,
        };
        let first_byte = latency.map(Duration::from_millis);
        Candidate { standing, first_byte, slow, favourite, tried, absent, ..at(price, 0) }
    }
}

proptest! {
    #[test]
    fn a_plan_names_nobody_twice_and_forgets_nobody_useful(
        candidates in proptest::collection::vec(candidate(Instant::now()), 0..12), len in any::<u64>(),
        within in proptest::option::of(any::<u64>().prop_map(Duration::from_micros))
    ) {
        let now = Instant::now();
        let plan = plan(now, &candidates, Need { len, within });
        let mut seen: Vec<usize> = plan.iter().map(|choice| choice.index).collect();
        seen.sort_unstable();
        seen.dedup();
        prop_assert_eq!(seen.len(), plan.len());
        for (at, c) in candidates.iter().enumerate() {
            let in_plan = seen.contains(&at);
            prop_assert!(!(c.absent && in_plan));
            prop_assert!(c.absent || c.standing != Standing::Closed || in_plan, "a closed one is missing");
        }
        let untried = candidates.iter().any(|c| !c.absent && !c.tried);
        prop_assert!(!untried || !plan.is_empty(), "the last source was excluded");
    }

    #[test]
    fn among_those_in_use_nobody_much_cheaper_stands_behind(
        candidates in proptest::collection::vec(candidate(Instant::now()), 0..12)
    ) {
        let plan = plan(Instant::now(), &candidates, Need::bytes(MB));
        let in_use = plan.iter().filter(|choice| {
            let c = &candidates[choice.index];
            !c.tried && !c.slow && choice.reason != ChoiceReason::LastResort
        });
        let cost = |c: &Candidate| Cost::of(c.asking.byte, c.asking.request, MB);
        let costs: Vec<Cost> = in_use.map(|choice| cost(&candidates[choice.index])).collect();
        prop_assert!(costs.windows(2).all(|pair| pair[0] <= with_band(pair[1])));
    }
}
