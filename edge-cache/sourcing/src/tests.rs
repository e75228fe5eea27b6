//! Stories in virtual time with scripted sources.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use futures_util::{StreamExt, stream};
use media::ByteRange;
use prometheus::Registry;
use tokio::time::Instant;

use crate::account::SourcePrice;
use crate::health::Standing;
use crate::planner::ChoiceReason;
use crate::tariff::Rate;
use crate::*;

mod contests;

const LEN: u64 = 100_000;
const PIECE: usize = 10_000;

/// What a scripted source does when it is asked.
#[derive(Debug, Clone)]
enum Act {
    /// Delivers everything.
    Deliver,
    /// Delivers so many bytes, then ends.
    CutAt(usize),
    /// Delivers so many bytes, then falls silent.
    StallAt(usize),
    /// Delivers so many bytes, then one every 600 ms: never silent, and never done.
    DripAt(usize),
    /// Delivers so many bytes, then a thousand at a time, each after so long.
    PacedAt(usize, Duration),
    /// Never answers.
    Hang,
    /// Delivers everything and then some.
    TooMuch,
    /// Promises one byte more than was asked.
    OtherLength,
    /// Answers so.
    Fail(Reason),
    /// Takes its time to answer.
    Late(Duration),
}

/// Plays its script, one act for each question, the last act forever.
struct Scripted {
    id: SourceId,
    script: Mutex<VecDeque<Act>>,
    asked: Mutex<Vec<Want>>,
}

fn object() -> Bytes {
    (0..LEN as usize).map(|at| (at % 251) as u8).collect()
}

impl Scripted {
    fn new(id: &str, script: &[Act]) -> Arc<Self> {
        let script = Mutex::new(script.iter().cloned().collect());
        Arc::new(Self { id: id.parse().expect("a name"), script, asked: Mutex::default() })
    }

    /// Where each question began.
    fn asked_from(&self) -> Vec<u64> {
        let asked = self.asked.lock().expect("lock");
        asked.iter().map(|want| want.range.map_or(0, ByteRange::start)).collect()
    }

    fn next_act(&self) -> Act {
        let mut script = self.script.lock().expect("lock");
        if script.len() > 1 { script.pop_front() } else { script.front().cloned() }.expect("an act")
    }
}

impl Source for Scripted {
    fn id(&self) -> &SourceId {
        &self.id
    }

    fn kind(&self) -> SourceKind {
        SourceKind::Http
    }

    fn open<'a>(&'a self, want: &'a Want) -> BoxFuture<'a, Result<Opened, SourceError>> {
        Box::pin(async move {
            self.asked.lock().expect("lock").push(want.clone());
            let range = want.range.map_or(0..LEN, |range| range.start()..range.end());
            let mut bytes = object().slice(range.start as usize..range.end as usize).to_vec();
            let (mut len, mut silent) = (bytes.len() as u64, false);
            let (mut rest, mut size, mut pause) = (Vec::new(), 1, Duration::from_millis(600));
            match self.next_act() {
                Act::Deliver => {}
                Act::Hang => std::future::pending().await,
                Act::Late(wait) => tokio::time::sleep(wait).await,
                Act::Fail(reason) => return Err(SourceError::new(reason, "as scripted")),
                Act::CutAt(at) => bytes.truncate(at),
                Act::TooMuch => bytes.push(0),
                Act::OtherLength => len += 1,
                Act::StallAt(at) => {
                    bytes.truncate(at);
                    silent = true;
                }
                Act::DripAt(at) => rest = bytes.split_off(at),
                Act::PacedAt(at, each) => (rest, size, pause) = (bytes.split_off(at), 1_000, each),
            }
            let pieces: Vec<_> = bytes.chunks(PIECE).map(|piece| Ok(Bytes::copy_from_slice(piece))).collect();
            let drips: Vec<_> = rest.chunks(size).map(Bytes::copy_from_slice).collect();
            let body = stream::iter(pieces).chain(stream::iter(drips).then(move |drop| async move {
                tokio::time::sleep(pause).await;
                Ok(drop)
            }));
            let body: ByteStream = if silent { body.chain(stream::pending()).boxed() } else { body.boxed() };
            Ok(Opened { len, body })
        })
    }
}

fn want() -> Want {
    Want { range: ByteRange::whole(LEN), object_len: Some(LEN), ..Want::object("bbb/v720.mp4".to_owned()) }
}

/// Sources in the order of their price.
fn sources(config: SourcingConfig, scripted: &[&Arc<Scripted>]) -> (Arc<Sources>, Registry) {
    let registry = Registry::new();
    let offers = scripted.iter().zip(0..).map(|(source, nth)| Offer {
        source: Arc::clone(*source) as Arc<dyn Source>,
        price: Price { picodollars_per_byte: nth * 100, picodollars_per_request: 7 },
    });
    (Sources::new(config, offers.collect(), &registry).expect("a good configuration"), registry)
}

fn deadline() -> Instant {
    Instant::now() + Duration::from_secs(30)
}

/// Buys everything, going on after each broken leg; the bytes and who delivered them, leg by leg.
async fn buy(sources: &Arc<Sources>, want: Want) -> Result<(Vec<u8>, Vec<String>), Exhausted> {
    let mut fetch = sources.fetch(want, deadline());
    let (mut got, mut from) = (Vec::new(), Vec::new());
    loop {
        let mut leg = fetch.next_leg(got.len() as u64).await?;
        from.push(leg.source().to_string());
        loop {
            match leg.chunk().await {
                Ok(Some(chunk)) => got.extend_from_slice(&chunk),
                Ok(None) => return Ok((got, from)),
                Err(_) => break,
            }
        }
    }
}

async fn check(script: &[(&str, &[Act])], legs: &[&str]) -> Vec<Arc<Scripted>> {
    let scripted: Vec<_> = script.iter().map(|(id, acts)| Scripted::new(id, acts)).collect();
    let (sources, _) = sources(SourcingConfig::default(), &scripted.iter().collect::<Vec<_>>());
    let (bytes, from) = buy(&sources, want()).await.expect("somebody delivers");
    assert_eq!(bytes, object(), "every byte is right and in its place");
    assert_eq!(from, legs);
    scripted
}

#[tokio::test(start_paused = true)]
async fn the_cheapest_delivers_and_nobody_else_is_asked() {
    let scripted = check(&[("cheap", &[Act::Deliver]), ("dear", &[Act::Deliver])], &["cheap"]).await;
    assert_eq!((scripted[0].asked_from(), scripted[1].asked_from()), (vec![0], vec![]));
}

#[tokio::test(start_paused = true)]
async fn a_broken_body_goes_on_elsewhere_where_it_broke() {
    for (act, broke_at) in [(Act::CutAt(50_000), 50_000), (Act::StallAt(30_000), 30_000)] {
        let scripted = check(&[("cheap", &[act]), ("dear", &[Act::Deliver])], &["cheap", "dear"]).await;
        assert_eq!(scripted[1].asked_from(), [broke_at]);
    }
    let scripted = check(&[("cheap", &[Act::CutAt(0)]), ("dear", &[Act::Deliver])], &["dear"]).await;
    assert_eq!(scripted[0].asked_from(), [0], "a body without a byte is no leg");
}

#[tokio::test(start_paused = true)]
async fn whoever_does_not_answer_well_is_passed_over() {
    let acts = Reason::ALL.into_iter().map(Act::Fail).chain([Act::Hang, Act::OtherLength]);
    for act in acts {
        check(&[("cheap", &[act]), ("dear", &[Act::Deliver])], &["dear"]).await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_hung_source_costs_its_timeout_and_no_more() {
    let config = SourcingConfig::default();
    let begun = Instant::now();
    check(&[("cheap", &[Act::Hang]), ("dear", &[Act::Deliver])], &["dear"]).await;
    assert_eq!(begun.elapsed(), config.hedge.unknown);
    let begun = Instant::now();
    check(&[("cheap", &[Act::StallAt(10_000)]), ("dear", &[Act::Deliver])], &["cheap", "dear"]).await;
    assert_eq!(begun.elapsed(), config.patience.unknown);
    let begun = Instant::now();
    check(&[("only", &[Act::StallAt(10_000), Act::Deliver])], &["only", "only"]).await;
    assert_eq!(begun.elapsed(), config.stall_timeout + config.retry_pause, "for want of another");
}

#[tokio::test(start_paused = true)]
async fn a_source_that_drips_costs_no_more_than_one_that_stalls() {
    let begun = Instant::now();
    let scripted =
        check(&[("cheap", &[Act::DripAt(30_000)]), ("dear", &[Act::Deliver])], &["cheap", "dear"]).await;
    assert_eq!(begun.elapsed(), SourcingConfig::default().patience.unknown);
    assert_eq!(scripted[1].asked_from(), [30_001], "what dripped in time is kept");
}

#[tokio::test(start_paused = true)]
async fn the_only_source_is_asked_again() {
    check(&[("only", &[Act::CutAt(70_000), Act::Deliver])], &["only", "only"]).await;
    check(&[("only", &[Act::Fail(Reason::Throttled), Act::Deliver])], &["only"]).await;
    check(&[("only", &[Act::Fail(Reason::Unavailable), Act::Deliver])], &["only"]).await;
}

/// Its rest is over long before the hung one is given up; still the one that was not asked yet comes first.
#[tokio::test(start_paused = true)]
async fn a_source_that_asked_for_a_pause_waits_behind_the_others() {
    let throttled: &[Act] = &[Act::Fail(Reason::Throttled)];
    check(&[("busy", throttled), ("hung", &[Act::Hang]), ("third", &[Act::Deliver])], &["third"]).await;
}

#[tokio::test(start_paused = true)]
async fn too_much_is_as_wrong_as_too_little() {
    let only = Scripted::new("only", &[Act::TooMuch]);
    let (sources, _) = sources(SourcingConfig::default(), &[&only]);
    let exhausted = buy(&sources, want()).await.expect_err("no splice");
    assert_eq!(exhausted.last.map(|last| last.reason), Some(Reason::Changed));
    assert!(matches!(sources.report()[0].standing, Standing::Open { .. }));
}

#[tokio::test(start_paused = true)]
async fn wrong_bytes_demote_at_once_and_the_fetch_goes_on() {
    let (liar, honest) = (Scripted::new("liar", &[Act::Deliver]), Scripted::new("honest", &[Act::Deliver]));
    let (sources, _) = sources(SourcingConfig::default(), &[&liar, &honest]);
    let mut fetch = sources.fetch(want(), deadline());
    let mut leg = fetch.next_leg(0).await.expect("the liar answers");
    leg.chunk().await.expect("bytes");
    leg.corrupt();
    assert_eq!(fetch.next_leg(4_096).await.expect("another").source().as_str(), "honest");
    assert_eq!(honest.asked_from(), [4_096]);
    let (_, from) = buy(&sources, want()).await.expect("delivers");
    assert_eq!(from, ["honest"], "and the next fetch avoids the liar");
}

#[tokio::test(start_paused = true)]
async fn a_dead_source_is_left_alone_and_comes_back() {
    let dead =
        [Act::Fail(Reason::Unavailable), Act::Fail(Reason::Unavailable), Act::Fail(Reason::Unavailable)];
    let cheap = Scripted::new("cheap", &[&dead[..], &[Act::Deliver]].concat());
    let dear = Scripted::new("dear", &[Act::Deliver]);
    let (sources, _) = sources(SourcingConfig::default(), &[&cheap, &dear]);
    for _ in 0..10 {
        assert_eq!(buy(&sources, want()).await.expect("delivers").1, ["dear"]);
    }
    assert_eq!(cheap.asked_from().len(), 3, "then it rests");
    tokio::time::sleep(Duration::from_secs(2)).await;
    assert_eq!(buy(&sources, want()).await.expect("delivers").1, ["cheap"], "the trial");
    assert_eq!(sources.report()[0].standing, Standing::Closed);
}

#[tokio::test(start_paused = true)]
async fn when_all_are_dead_there_is_no_storm_and_no_endless_wait() {
    let dead = [Scripted::new("a", &[Act::Hang]), Scripted::new("b", &[Act::Hang])];
    let config = SourcingConfig::default();
    let (sources, _) = sources(config.clone(), &[&dead[0], &dead[1]]);
    let asked = || dead.iter().map(|source| source.asked_from().len()).sum::<usize>();
    for _ in 0..3 {
        let before = asked();
        let exhausted = buy(&sources, want()).await.expect_err("nobody delivers");
        assert!(!exhausted.not_found);
        assert_eq!(exhausted.last.map(|last| last.reason), Some(Reason::Timeout));
        assert!(asked() - before <= config.max_attempts as usize);
    }
    let begun = Instant::now();
    let before = asked();
    for _ in 0..5 {
        buy(&sources, want()).await.expect_err("nobody delivers");
    }
    assert!(asked() - before <= 10, "one last resort, or one trial and one last resort, for each fetch");
    assert!(begun.elapsed() <= (config.first_byte_timeout + config.rest_wait) * 10);
}

#[tokio::test(start_paused = true)]
async fn not_found_is_said_only_when_every_healthy_source_says_it() {
    let absent = || Scripted::new("absent", &[Act::Fail(Reason::NotFound)]);
    for (second, expected) in [
        (Act::Fail(Reason::NotFound), true),
        (Act::Fail(Reason::Unsupported), true),
        (Act::Fail(Reason::Unavailable), false),
        (Act::Hang, false),
    ] {
        let second = Scripted::new("second", &[second]);
        let (sources, _) = sources(SourcingConfig::default(), &[&absent(), &second]);
        let exhausted = buy(&sources, want()).await.expect_err("nobody delivers");
        assert_eq!(exhausted.not_found, expected, "{:?}", second.script);
        assert_eq!(sources.report()[0].failures, 0, "absence is no failure");
    }
}

#[tokio::test(start_paused = true)]
async fn the_deadline_ends_a_fetch_and_blames_nobody() {
    let slow = Scripted::new("slow", &[Act::Hang]);
    let (sources, _) = sources(SourcingConfig::default(), &[&slow]);
    let begun = Instant::now();
    let mut fetch = sources.fetch(want(), begun + Duration::from_millis(100));
    let exhausted = fetch.next_leg(0).await.expect_err("no time");
    assert_eq!(begun.elapsed(), Duration::from_millis(100));
    assert_eq!(exhausted.last.map(|last| last.reason), Some(Reason::Timeout));
    assert_eq!(sources.report()[0].failures, 0);
}

#[tokio::test(start_paused = true)]
async fn permits_bound_the_transfers_from_one_source() {
    let only = Scripted::new("only", &[Act::Deliver]);
    let config = SourcingConfig { permits: 2, ..SourcingConfig::default() };
    let (sources, _) = sources(config, &[&only]);
    let mut held = Vec::new();
    for _ in 0..2 {
        let mut fetch = sources.fetch(want(), deadline());
        held.push(fetch.next_leg(0).await.expect("a permit"));
    }
    let exhausted = buy(&sources, want()).await.expect_err("no permit");
    assert_eq!((exhausted.attempts, exhausted.last.map(|last| last.reason)), (0, Some(Reason::Throttled)));
    held.pop();
    assert!(buy(&sources, want()).await.is_ok(), "a dropped leg gives its permit back");
}

#[tokio::test(start_paused = true)]
async fn a_late_source_is_still_heard_and_remembered_as_slow() {
    let late = Scripted::new("late", &[Act::Late(Duration::from_millis(1_500))]);
    let dear = Scripted::new("dear", &[Act::Deliver]);
    let mut config = SourcingConfig::default();
    (config.hedge.max_extra_percent, config.patience.unknown) = (0, config.first_byte_timeout);
    let (sources, _) = sources(config, &[&late, &dear]);
    assert_eq!(buy(&sources, want()).await.expect("delivers").1, ["late"]);
    assert_eq!(buy(&sources, want()).await.expect("delivers").1, ["dear"], "its first bytes come late");
    tokio::time::sleep(Duration::from_secs(10)).await;
    assert_eq!(buy(&sources, want()).await.expect("delivers").1, ["late"], "another chance");
}

#[tokio::test(start_paused = true)]
async fn every_byte_and_request_is_paid_for() {
    let cheap = Scripted::new("cheap", &[Act::CutAt(40_000)]);
    let dear = Scripted::new("dear", &[Act::Deliver]);
    let (sources, registry) = sources(SourcingConfig::default(), &[&cheap, &dear]);
    buy(&sources, want()).await.expect("delivers");
    let paid = |report: &SourceReport| (report.bytes, report.requests, report.spend_picodollars);
    let report: Vec<_> = sources.report().iter().map(paid).collect();
    assert_eq!(report, [(40_000, 1, 7), (60_000, 1, 60_000 * 100 + 7)]);
    let text = prometheus::TextEncoder::new().encode_to_string(&registry.gather()).expect("encodes");
    for line in [
        "weir_sourcing_bytes_total{source=\"dear\"} 60000",
        "weir_sourcing_requests_total{outcome=\"cut\",source=\"cheap\"} 1",
        "weir_sourcing_requests_total{outcome=\"delivered\",source=\"dear\"} 1",
        "weir_sourcing_first_byte_seconds_count{source=\"cheap\"} 1",
        "weir_sourcing_spend_picodollars_total{source=\"dear\"} 6000007",
        "weir_sourcing_breaker_state{source=\"cheap\"} 0",
    ] {
        assert!(text.contains(line), "{line} is missing in\n{text}");
    }
}

/// Prices in picodollars for a byte, of sources without links.
fn posted(bytes: &[u64]) -> Vec<SourcePrice> {
    let price = |byte: &u64| SourcePrice { byte: Rate::picodollars(*byte), ..SourcePrice::default() };
    bytes.iter().map(price).collect()
}

#[tokio::test(start_paused = true)]
async fn posted_prices_decide_from_the_next_leg_on() {
    let (a, b) = (Scripted::new("a", &[Act::Deliver]), Scripted::new("b", &[Act::Deliver]));
    let (sources, _) = sources(SourcingConfig::default(), &[&a, &b]);
    assert_eq!(buy(&sources, want()).await.expect("delivers").1, ["a"], "0 against 100");
    sources.post(&posted(&[90, 20]), &[]);
    assert_eq!(buy(&sources, want()).await.expect("delivers").1, ["b"]);
    assert_eq!(sources.report()[1].spend_picodollars, LEN * 20);
    let explained: Vec<String> = sources.explain(LEN).iter().map(ToString::to_string).collect();
    assert_eq!(
        explained,
        [
            "b: cheapest, 0.020000 USD/GB, closed, first byte 0 ms",
            "a: dearer, 0.090000 USD/GB, closed, first byte 0 ms"
        ]
    );
}

#[tokio::test(start_paused = true)]
async fn a_link_is_left_when_its_allowance_is_used_up() {
    let (a, b) = (Scripted::new("link", &[Act::Deliver]), Scripted::new("b", &[Act::Deliver]));
    let (sources, _) = sources(SourcingConfig::default(), &[&a, &b]);
    let mut prices = posted(&[0, 20]);
    prices[0].link = Some((0, Rate::picodollars(4_000)));
    sources.post(&prices, &[LEN * 2]);
    let mut from = Vec::new();
    for _ in 0..3 {
        from.extend(buy(&sources, want()).await.expect("delivers").1);
    }
    assert_eq!(from, ["link", "link", "b"]);
    sources.post(&prices, &[LEN]);
    assert_eq!(buy(&sources, want()).await.expect("delivers").1, ["link"], "a new slot");
}

#[tokio::test(start_paused = true)]
async fn an_explanation_names_everybody() {
    let dead = Scripted::new("dead", &[Act::Fail(Reason::Corrupt)]);
    let (good, other) =
        (Scripted::new("good", &[Act::Deliver]), Scripted::new("other", &[Act::Fail(Reason::Throttled)]));
    let (sources, _) = sources(SourcingConfig::default(), &[&dead, &other, &good]);
    buy(&sources, want()).await.expect("delivers");
    let explained: Vec<_> =
        sources.explain(LEN).into_iter().map(|line| (line.id.to_string(), line.reason)).collect();
    let named = |id: &str| id.to_owned();
    assert_eq!(
        explained,
        [
            (named("good"), Some(ChoiceReason::Cheapest)),
            (named("other"), Some(ChoiceReason::LastResort)),
            (named("dead"), None)
        ]
    );
}

#[tokio::test]
async fn impossible_configurations_are_refused_with_every_reason() {
    let twin = Scripted::new("twin", &[Act::Deliver]);
    let offer = || Offer { source: Arc::clone(&twin) as Arc<dyn Source>, price: Price::default() };
    let config = SourcingConfig { permits: 0, ..SourcingConfig::default() };
    let refused = Sources::new(config, vec![offer(), offer()], &Registry::new()).err().expect("refused");
    assert_eq!(
        refused.to_string(),
        "the sourcing configuration cannot work: sourcing.permits: must be 1 to 65536; sources: twin stands there twice"
    );
    assert!(Sources::new(SourcingConfig::default(), vec![], &Registry::new()).is_err());
}

#[test]
fn names_of_sources_are_fit_for_labels() {
    assert!("peer-ams1.example".parse::<SourceId>().is_ok());
    for bad in ["", "S3", "a b", "a\"b", &"x".repeat(65)] {
        assert!(bad.parse::<SourceId>().is_err(), "{bad}");
    }
}
