//! Hedges, budgets, probes and the last source: stories in virtual time.

use futures_util::future::join_all;

use super::*;

const MS: Duration = Duration::from_millis(1);

/// `count` acts: mostly delivery after 5 ms, but each `nth` takes `late`.
fn now_and_then(count: usize, nth: usize, late: Duration) -> Vec<Act> {
    (1..=count).map(|at| Act::Late(if at % nth == 0 { late } else { 5 * MS })).collect()
}

async fn first_byte(sources: &Arc<Sources>) -> Duration {
    let begun = Instant::now();
    let mut leg = sources.fetch(want(), deadline()).next_leg(0).await.expect("somebody answers");
    let took = begun.elapsed();
    while leg.chunk().await.expect("a good body").is_some() {}
    took
}

fn metric(registry: &Registry, line: &str) -> u64 {
    let text = prometheus::TextEncoder::new().encode_to_string(&registry.gather()).expect("encodes");
    let value = text.lines().find_map(|known| known.strip_prefix(line)?.strip_prefix(' ')?.parse().ok());
    value.unwrap_or_else(|| panic!("{line} is missing in\n{text}"))
}

#[tokio::test(start_paused = true)]
async fn hedging_cuts_the_tail_of_a_source_that_is_late_now_and_then() {
    const FETCHES: usize = 3_000;
    let tail = async |percent| {
        let cheap = Scripted::new("cheap", &now_and_then(FETCHES, 100, 1_000 * MS));
        let dear = Scripted::new("dear", &[Act::Late(8 * MS)]);
        let mut config = SourcingConfig::default();
        (config.hedge.max_extra_percent, config.patience.unknown) = (percent, config.first_byte_timeout);
        config.patience.least = config.first_byte_timeout;
        let (sources, _) = sources(config, &[&cheap, &dear]);
        let mut took = Vec::new();
        for _ in 0..FETCHES {
            took.push(first_byte(&sources).await);
        }
        took.sort_unstable();
        (took[FETCHES * 999 / 1_000], dear.asked_from().len())
    };
    let (without, none) = tail(0).await;
    let (with, second) = tail(3).await;
    assert_eq!((without, none), (1_000 * MS, 0));
    assert!(with * 3 <= without, "{with:?} against {without:?}");
    assert!(second * 100 <= FETCHES * 3, "{second} of {FETCHES} were asked for twice");
}

#[tokio::test(start_paused = true)]
async fn the_budget_bounds_what_is_asked_for_twice() {
    let late = Scripted::new("late", &now_and_then(1_000, 25, 200 * MS));
    let dear = Scripted::new("dear", &[Act::Deliver]);
    let mut config = SourcingConfig::default();
    config.hedge.reserve_bytes = media::ByteSize::from(4 * LEN);
    config.breaker.overtaken = 1_000;
    let (sources, registry) = sources(config, &[&late, &dear]);
    for _ in 0..1_000 {
        first_byte(&sources).await;
    }
    let sent = metric(&registry, "weir_sourcing_hedges_total{result=\"sent\",source=\"dear\"}");
    let denied = metric(&registry, "weir_sourcing_hedges_total{result=\"denied\",source=\"dear\"}");
    assert!(sent > 0 && sent <= 4 + 1_000 * 3 / 100, "{sent}");
    assert!(denied > 0 && sent + denied <= 40, "{denied}");
}

#[tokio::test(start_paused = true)]
async fn a_herd_at_a_source_that_never_answers_waits_for_the_first_few_only() {
    let (dead, good) = (Scripted::new("dead", &[Act::Hang]), Scripted::new("good", &[Act::Late(5 * MS)]));
    let config = SourcingConfig { permits: 1_000, ..SourcingConfig::default() };
    let (sources, registry) = sources(config.clone(), &[&dead, &good]);
    let took = join_all((0..200).map(|_| first_byte(&sources))).await;
    assert!(took.iter().all(|took| *took <= config.patience.unknown + 10 * MS), "{:?}", took.iter().max());
    assert!(matches!(sources.report()[0].standing, Standing::Open { .. }));
    assert_eq!(metric(&registry, "weir_sourcing_rests_total{source=\"dead\"}"), 1);
    assert_eq!(first_byte(&sources).await, 5 * MS, "once it rests it costs nothing");
}

#[tokio::test(start_paused = true)]
async fn the_only_source_is_hedged_with_itself() {
    let only = Scripted::new("only", &[Act::Hang, Act::Late(5 * MS)]);
    let (sources, _) = sources(SourcingConfig::default(), &[&only]);
    assert_eq!(first_byte(&sources).await, SourcingConfig::default().hedge.unknown + 5 * MS);
    assert_eq!((only.asked_from().len(), sources.report()[0].standing), (2, Standing::Closed));
}

#[tokio::test(start_paused = true)]
async fn when_nobody_answers_that_is_said_in_time() {
    for count in [1, 2, 5] {
        let names: Vec<String> = (0..count).map(|nth| format!("dead-{nth}")).collect();
        let dead: Vec<_> = names.iter().map(|name| Scripted::new(name, &[Act::Hang])).collect();
        let (sources, _) = sources(SourcingConfig::default(), &dead.iter().collect::<Vec<_>>());
        let (asked, fetches) = (|| dead.iter().map(|dead| dead.asked_from().len()).sum::<usize>(), 100);
        for nth in 0..fetches {
            let begun = Instant::now();
            buy(&sources, want()).await.expect_err("nobody answers");
            assert!(begun.elapsed() <= SourcingConfig::default().first_byte_timeout, "fetch {nth}");
        }
        assert!(asked() <= fetches * 11 / 10 + 6 * count, "{} for {fetches} by {count}", asked());
    }
}

#[tokio::test(start_paused = true)]
async fn retries_at_one_source_end_with_their_budget() {
    let only = Scripted::new("only", &[Act::CutAt(0)]);
    let mut config = SourcingConfig::default();
    (config.retry.reserve, config.breaker.failures) = (2, 1_000);
    config.breaker.least_transfers = 1_000;
    let (sources, registry) = sources(config, &[&only]);
    for asked in [3, 4, 5] {
        buy(&sources, want()).await.expect_err("nothing comes");
        assert_eq!(only.asked_from().len(), asked);
    }
    assert_eq!(metric(&registry, "weir_sourcing_retries_denied_total{source=\"only\"}"), 3);
}

#[tokio::test(start_paused = true)]
async fn progress_earns_attempts() {
    let only = Scripted::new("only", &[Act::CutAt(20_000)]);
    let config = SourcingConfig { max_attempts: 1, ..SourcingConfig::default() };
    let (sources, _) = sources(config, &[&only]);
    let large = Want { range: ByteRange::whole(LEN), ..Want::object("x".to_owned()) };
    let mut fetch = sources.fetch(large, deadline());
    assert!(fetch.next_leg(0).await.is_ok());
    assert!(fetch.next_leg(20_000).await.is_err(), "20 kB earn nothing");
}

/// A want of a segment, so that there is something to probe with.
fn of_segment() -> Want {
    let (key, _) = media::SegmentKey::parse("bbb/00000000000000ff/v720/3.m4s").expect("a key");
    let range = ByteRange::whole(LEN).expect("not empty");
    let segment = SegmentWant { key, range, len: LEN, root: media::Digest::of(b"") };
    Want { segment: Some(segment), ..want() }
}

#[tokio::test(start_paused = true)]
async fn probes_and_not_viewers_try_a_source_that_rested() {
    let mut script = vec![Act::Deliver];
    script.extend([const { Act::Fail(Reason::Unavailable) }; 6]);
    script.push(Act::Deliver);
    let (cheap, dear) = (Scripted::new("cheap", &script), Scripted::new("dear", &[Act::Deliver]));
    let (sources, registry) = sources(SourcingConfig::default(), &[&cheap, &dear]);
    let probes = tokio::spawn(Arc::clone(&sources).probe());
    let begun = Instant::now();
    let mut lengths = Vec::new();
    while begun.elapsed() < Duration::from_secs(30) {
        buy(&sources, of_segment()).await.expect("delivers");
        tokio::time::sleep(100 * MS).await;
    }
    lengths.extend(cheap.asked.lock().expect("lock").iter().filter_map(Want::len));
    assert_eq!(lengths[..4], [LEN; 4], "one good transfer, and three that failed");
    assert_eq!(lengths[4..8], [16 * 1024; 4], "then probes, until one is answered");
    assert_eq!(lengths[8], LEN, "and viewers again");
    assert_eq!(metric(&registry, "weir_sourcing_probes_total{result=\"failed\",source=\"cheap\"}"), 3);
    assert_eq!(sources.report()[0].standing, Standing::Closed);
    probes.abort();
    assert!(probes.await.is_err_and(|end| end.is_cancelled()));
    assert!(
        !sources.probed.load(std::sync::atomic::Ordering::Relaxed),
        "nobody waits for probes that do not come"
    );
}

#[tokio::test(start_paused = true)]
async fn a_source_that_nobody_asks_is_probed_and_one_that_lied_is_not() {
    let (cheap, idle) =
        (Scripted::new("cheap", &[Act::Deliver]), Scripted::new("idle", &[Act::Fail(Reason::NotFound)]));
    let liar = Scripted::new("liar", &[Act::TooMuch]);
    let (sources, registry) = sources(SourcingConfig::default(), &[&cheap, &idle, &liar]);
    let _probes = tokio::spawn(Arc::clone(&sources).probe());
    tokio::time::sleep(Duration::from_secs(100)).await;
    assert_eq!(idle.asked_from().len(), 0, "there is nothing to ask for yet");
    for _ in 0..10 {
        buy(&sources, of_segment()).await.expect("delivers");
        tokio::time::sleep(Duration::from_secs(10)).await;
    }
    assert_eq!(idle.asked_from().len(), 4, "at once, because it is long due, and every 30 s");
    tokio::time::sleep(Duration::from_secs(1_000)).await;
    assert!(idle.asked_from().len() <= 5 && cheap.asked_from().len() <= 11, "who buys nothing asks nothing");
    assert!(metric(&registry, "weir_sourcing_probes_total{result=\"answered\",source=\"idle\"}") >= 4);
    assert_eq!(liar.asked_from().len(), 1, "its bytes must be checked before it is in use again");
}

#[tokio::test(start_paused = true)]
async fn who_says_slow_down_gets_fewer_transfers() {
    let busy = Scripted::new("busy", &[Act::Fail(Reason::Throttled), Act::Deliver]);
    let config = SourcingConfig { permits: 8, ..SourcingConfig::default() };
    let (sources, registry) = sources(config, &[&busy]);
    buy(&sources, want()).await.expect("delivers after a pause");
    assert_eq!(sources.explain(LEN)[0].permits, 4);
    assert_eq!(metric(&registry, "weir_sourcing_permits{source=\"busy\"}"), 4);
    for _ in 0..40 {
        buy(&sources, want()).await.expect("delivers");
    }
    assert_eq!(sources.explain(LEN)[0].permits, 8);
}

#[tokio::test(start_paused = true)]
async fn a_body_far_too_slow_is_left_for_another() {
    let slow = Scripted::new("slow", &[Act::PacedAt(30_000, 50 * MS)]);
    let good = Scripted::new("good", &[Act::Deliver]);
    let (sources, _) = sources(SourcingConfig::default(), &[&slow, &good]);
    let begun = Instant::now();
    let (bytes, from) = buy(&sources, want()).await.expect("delivers");
    assert_eq!((bytes, from), (object().to_vec(), vec!["slow".to_owned(), "good".to_owned()]));
    assert!(begun.elapsed() <= Duration::from_millis(1_100), "{:?}", begun.elapsed());
    let alone = self::sources(SourcingConfig::default(), &[&slow]).0;
    assert_eq!(buy(&alone, want()).await.expect("delivers").1, ["slow"], "better than nothing");
}

#[tokio::test(start_paused = true)]
async fn who_is_in_a_hurry_gets_a_faster_source_while_there_is_budget() {
    let (cheap, dear) =
        (Scripted::new("cheap", &[Act::Late(150 * MS)]), Scripted::new("dear", &[Act::Late(5 * MS)]));
    let mut config = SourcingConfig::default();
    config.urgency.reserve_bytes = media::ByteSize::from(2 * LEN);
    let (sources, registry) = sources(config, &[&cheap, &dear]);
    let buy_by = async |within: Option<Duration>| {
        let mut fetch = sources.fetch(want(), deadline());
        fetch.needed_by(within.map(|within| Instant::now() + within));
        let mut leg = fetch.next_leg(0).await.expect("delivers");
        while leg.chunk().await.expect("bytes").is_some() {}
        leg.source().to_string()
    };
    assert_eq!(buy_by(Some(5_000 * MS)).await, "cheap");
    sources.post(&posted(&[100, 0]), &[]);
    assert_eq!(buy_by(None).await, "dear", "so that both are known");
    sources.post(&posted(&[0, 100]), &[]);
    assert_eq!(buy_by(Some(5_000 * MS)).await, "cheap", "there is time");
    assert_eq!(buy_by(Some(20 * MS)).await, "dear");
    assert_eq!(buy_by(Some(Duration::ZERO)).await, "dear");
    assert_eq!(buy_by(Some(20 * MS)).await, "cheap", "that was the budget");
    assert_eq!(metric(&registry, "weir_sourcing_urgent_bytes_total"), 2 * LEN);
}

/// The winner lied; the one that had lost against it must be as good as new.
#[tokio::test(start_paused = true)]
async fn who_lost_a_contest_has_not_failed() {
    let liar = Scripted::new("liar", &[Act::Late(300 * MS)]);
    let honest = Scripted::new("honest", &[Act::Late(100 * MS)]);
    let config = SourcingConfig { max_attempts: 2, ..SourcingConfig::default() };
    let (sources, _) = sources(config, &[&liar, &honest]);
    let mut fetch = sources.fetch(want(), deadline());
    fetch.next_leg(0).await.expect("the liar answers first").corrupt();
    assert_eq!((liar.asked_from().len(), honest.asked_from().len()), (1, 1));
    assert_eq!(fetch.next_leg(0).await.expect("another").source().as_str(), "honest");
}

/// The only source takes one transfer at a time and says "slow down" to every second one for a while: everybody is
/// served all the same, because it is waited for as often as it asks.
#[tokio::test(start_paused = true)]
async fn the_only_source_may_ask_for_a_pause_more_than_once() {
    let slow_down = Act::Fail(Reason::Throttled);
    let only = Scripted::new("only", &[slow_down.clone(), slow_down.clone(), slow_down, Act::Deliver]);
    let mut config = SourcingConfig::default();
    config.breaker.jitter_percent = 0;
    let (sources, _) = sources(config, &[&only]);
    let begun = Instant::now();
    assert_eq!(buy(&sources, want()).await.expect("delivers in the end").1, ["only"]);
    let rests = SourcingConfig::default().breaker.throttled_for * 3;
    assert!(begun.elapsed() >= rests && begun.elapsed() <= rests + 1_000 * MS, "{:?}", begun.elapsed());
}
