//! The machine's table, then a small world that is killed at every possible point.

use control_api::rest::{RenditionView, Stage};
use media::RenditionKind;
use proptest::prelude::*;

use super::*;
use crate::ladder::{FrameRate, SourceAudio, SourceFacts};
use crate::lint::Rule;

fn order() -> Order {
    Order {
        title: "bbb".parse().expect("valid"),
        package: "00000000000000ff".parse().expect("valid"),
        source: "bbb.mp4".into(),
        captions: vec![],
        tags: vec!["licence-2026".parse().expect("valid"), "vendor-acme".parse().expect("valid")],
        retry: RetryPolicy::default(),
    }
}

fn facts() -> SourceFacts {
    SourceFacts {
        width: 1280,
        height: 720,
        frame_rate: FrameRate { num: 24, den: 1 },
        duration_ms: 596_474,
        audio: vec![SourceAudio { track: 0, language: "en".parse().expect("valid") }],
    }
}

fn indexed() -> IndexFacts {
    let id = "v720".parse().expect("valid");
    let rendition = RenditionView {
        id,
        kind: RenditionKind::Video,
        bandwidth: 1_000_000,
        segments: 100,
        bytes: 63_000_000,
    };
    IndexFacts { duration_ms: 596_500, renditions: vec![rendition] }
}

fn finding(severity: Severity) -> Finding {
    let rendition = Some("v720".parse().expect("valid"));
    Finding { rule: Rule::SyncStart, severity, rendition, text: "segment 3".into() }
}

/// What a job that went well answers.
fn success(job: JobKind) -> Done {
    match job {
        JobKind::Probe => Done::Probed(facts()),
        JobKind::Transcode => Done::Transcoded,
        JobKind::Package => Done::Packaged,
        JobKind::Verify => Done::Verified(vec![finding(Severity::Warning)]),
        JobKind::BuildIndex => Done::Indexed(indexed()),
        JobKind::Publish => Done::Published { at: 7 },
    }
}

fn done(effect: u32, job: JobKind) -> Event {
    Event::Done { effect: EffectId(effect), done: success(job) }
}

fn failed(effect: u32, permanent: bool) -> Event {
    let failure = Failure { permanent, detail: "broken".into() };
    Event::Failed { effect: EffectId(effect), failure }
}

fn received() -> Event {
    Event::Received(order())
}

/// Begun, and the first `jobs` jobs done.
fn after(jobs: u32) -> State {
    let answers = JobKind::ALL.into_iter().zip(1..=jobs).map(|(job, effect)| done(effect, job));
    replay([received()].into_iter().chain(answers)).expect("a journal")
}

#[test]
fn the_straight_way() {
    let (mut state, mut effects) = step(&State::default(), received()).expect("the first event");
    for (job, id) in JobKind::ALL.into_iter().zip(1..) {
        let [effect] = &effects[..] else { panic!("one effect, not {effects:?}") };
        assert_eq!((effect.id, effect.job.kind(), effect.attempt), (EffectId(id), job, 1));
        assert_eq!((effect.delay, state.pending()), (Duration::ZERO, Some(effect)));
        (state, effects) = step(&state, done(id, job)).expect("the awaited answer");
    }
    assert_eq!((state.phase(), effects), (&Phase::Published { at: 7 }, vec![]));
    assert_eq!((state.facts(), state.indexed()), (Some(&facts()), Some(&indexed())));
    assert_eq!(state.findings(), [finding(Severity::Warning)]);
    assert!(state.settled() && state.pending().is_none() && state.reason().is_none());
}

#[test]
fn the_ladder_of_the_source_is_encoded_and_packaged() {
    let wanted = ladder(&facts()).expect("a film");
    assert_eq!(after(1).pending().expect("running").job, Job::Transcode { ladder: wanted.clone() });
    assert_eq!(after(2).pending().expect("running").job, Job::Package { ladder: wanted });
}

#[test]
fn stages_and_progress_are_told() {
    let check = |jobs: u32, permille: u16, stage: Stage, percent: u8| {
        assert_eq!(after(jobs).progress(permille), Progress { stage, percent }, "{jobs} {permille}");
    };
    assert_eq!(State::default().progress(500), Progress { stage: Stage::Received, percent: 0 });
    check(0, 0, Stage::Received, 0);
    check(1, 0, Stage::Probed, 1);
    check(1, 1, Stage::Transcoding, 1);
    check(1, 500, Stage::Transcoding, 41);
    check(1, 65_535, Stage::Transcoding, 81);
    check(2, 0, Stage::Packaging, 81);
    check(3, 0, Stage::Verifying, 87);
    check(4, 0, Stage::Verifying, 91);
    check(5, 0, Stage::Indexed, 99);
    check(5, 1000, Stage::Indexed, 99);
    check(6, 0, Stage::Published, 100);
    let stopped = step(&after(1), failed(2, true)).expect("an answer").0;
    assert_eq!(stopped.progress(500), Progress { stage: Stage::Failed, percent: 1 });
}

#[test]
fn failures_are_tried_again_with_growing_patience() {
    let mut state = after(1);
    for (id, attempt, wait_s) in [(2, 2, 5), (3, 3, 10), (4, 4, 20)] {
        let (next, effects) = step(&state, failed(id, false)).expect("an answer");
        let [effect] = &effects[..] else { panic!("one effect, not {effects:?}") };
        assert_eq!((effect.id, effect.attempt), (EffectId(id + 1), attempt));
        assert_eq!((effect.delay, effect.job.kind()), (Duration::from_secs(wait_s), JobKind::Transcode));
        state = next;
    }
    let (state, effects) = step(&state, failed(5, false)).expect("an answer");
    assert_eq!((state.reason().as_deref(), effects), (Some("transcode: broken"), vec![]));
}

#[test]
fn each_job_has_its_own_attempts() {
    let state = replay([received(), failed(1, false), failed(2, false), done(3, JobKind::Probe)]);
    let state = state.expect("a journal");
    let effect = state.pending().expect("running");
    assert_eq!((effect.id, effect.attempt, effect.delay), (EffectId(4), 1, Duration::ZERO));
}

#[test]
fn waits_have_a_ceiling() {
    let policy = RetryPolicy::default();
    let check = |attempt, ms| assert_eq!(policy.delay_after(attempt), Duration::from_millis(ms), "{attempt}");
    check(0, 5_000);
    check(1, 5_000);
    check(2, 10_000);
    check(6, 160_000);
    check(7, 300_000);
    check(u32::MAX, 300_000);
    let endless = RetryPolicy { first_delay_ms: u64::MAX, max_delay_ms: u64::MAX, ..policy };
    assert_eq!(endless.delay_after(9), Duration::from_millis(u64::MAX));
}

#[test]
fn what_cannot_become_better_is_not_tried_again() {
    let check = |state: &State, event: Event, expected: &str| {
        let (state, effects) = step(state, event).expect("an answer");
        assert!(effects.is_empty() && state.settled());
        assert_eq!(state.reason().as_deref(), Some(expected));
    };
    check(&after(2), failed(3, true), "package: broken");
    let silent = Done::Probed(SourceFacts { audio: vec![], ..facts() });
    check(
        &after(0),
        Event::Done { effect: EffectId(1), done: silent },
        "probe: the source has no audio track",
    );
    let findings = vec![finding(Severity::Warning), finding(Severity::Error), finding(Severity::Error)];
    let judged = Event::Done { effect: EffectId(4), done: Done::Verified(findings.clone()) };
    let text = "verify: error sync-start v720: segment 3; error sync-start v720: segment 3";
    check(&after(3), judged.clone(), text);
    assert_eq!(step(&after(3), judged).expect("an answer").0.findings(), findings);
}

#[test]
fn the_operator_can_ask_again() {
    let stopped = step(&after(4), failed(5, true)).expect("an answer").0;
    let (state, effects) = step(&stopped, Event::Retried).expect("a failed ingest");
    assert_eq!(effects[0].job.kind(), JobKind::Probe);
    assert_eq!((effects[0].id, effects[0].attempt), (EffectId(6), 1));
    // An answer to the old attempt is not taken for one to the new.
    assert_eq!(step(&state, done(5, JobKind::BuildIndex)), Ok((state.clone(), vec![])));
    for untouched in [after(3), after(6)] {
        assert_eq!(step(&untouched, Event::Retried), Ok((untouched.clone(), vec![])));
    }
}

#[test]
fn late_and_repeated_events_change_nothing() {
    let stopped = step(&after(1), failed(2, true)).expect("an answer").0;
    let retrying = step(&after(1), failed(2, false)).expect("an answer").0;
    for state in [after(0), after(1), after(3), after(6), stopped, retrying] {
        for event in [received(), done(0, JobKind::Probe), done(99, JobKind::Publish), failed(0, true)] {
            assert_eq!(step(&state, event.clone()), Ok((state.clone(), vec![])), "{event:?}");
        }
    }
    let late = done(2, JobKind::Transcode);
    let retrying = step(&after(1), failed(2, false)).expect("an answer").0;
    assert_eq!(step(&retrying, late), Ok((retrying.clone(), vec![])));
}

#[test]
fn what_belongs_elsewhere_is_an_error() {
    let empty = State::default();
    for event in [done(1, JobKind::Probe), failed(1, true), Event::Retried] {
        assert_eq!(step(&empty, event), Err(StepError::NotReceived));
    }
    let other = Event::Received(Order { source: "other.mp4".into(), ..order() });
    assert_eq!(step(&after(2), other), Err(StepError::OtherOrder));
    let mismatch = StepError::Mismatch { effect: EffectId(3), asked: "package" };
    assert_eq!(step(&after(2), done(3, JobKind::Publish)), Err(mismatch));
}

#[test]
fn the_journal_keeps_its_form() {
    let events = [
        received(),
        done(1, JobKind::Probe),
        failed(2, false),
        done(3, JobKind::Transcode),
        done(4, JobKind::Package),
        done(5, JobKind::Verify),
        done(6, JobKind::BuildIndex),
        done(7, JobKind::Publish),
        Event::Retried,
    ];
    let lines = events.iter().map(|event| serde_json::to_string(event).expect("serialisable") + "\n");
    assert_eq!(lines.collect::<String>(), include_str!("../../tests/golden/journal.jsonl"));
    let lines = include_str!("../../tests/golden/journal.jsonl").lines();
    let read: Vec<Event> = lines.map(|line| serde_json::from_str(line).expect("readable")).collect();
    assert_eq!(read, events);
}

/// Journals of films that were ordered before titles had tags.
#[test]
fn an_order_without_tags_is_read() {
    let line = r#"{"received":{"title":"bbb","package":"00000000000000ff","source":"bbb.mp4","captions":[],"retry":{"max_attempts":4,"first_delay_ms":5000,"max_delay_ms":300000}}}"#;
    let read: Event = serde_json::from_str(line).expect("readable");
    assert_eq!(read, Event::Received(Order { tags: vec![], ..order() }));
}

/// A runner as the program has one, and the world it works on.
struct World {
    journal: Vec<Event>,
    /// Packages that viewers can see: publishing one twice is publishing it once.
    published: Vec<media::PackageId>,
    /// What each effect did, in order.
    carried_out: Vec<EffectId>,
}

/// Where a run of the program ends.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Kill {
    /// Before the effect began.
    Before,
    /// After the effect, before its event was written.
    Between,
    /// Right after its event was written.
    After,
}

impl World {
    fn new() -> Self {
        Self { journal: vec![received()], published: vec![], carried_out: vec![] }
    }

    /// Replays, then works until killed or settled; `fails` says which attempts go wrong.
    fn run(&mut self, kill: Option<(usize, Kill)>, fails: &dyn Fn(&Effect) -> bool) -> State {
        let mut state = replay(self.journal.clone()).expect("our own journal");
        let mut count = 0;
        while let Some(effect) = state.pending().cloned() {
            let killed = kill.filter(|(at, _)| *at == count).map(|(_, kill)| kill);
            if killed == Some(Kill::Before) {
                return state;
            }
            let event = self.carry_out(&effect, fails(&effect));
            if killed == Some(Kill::Between) {
                return state;
            }
            self.journal.push(event.clone());
            if killed == Some(Kill::After) {
                return state;
            }
            let (next, effects) = step(&state, event).expect("the awaited answer");
            assert_eq!(effects.first(), next.pending());
            (state, count) = (next, count + 1);
        }
        state
    }

    fn carry_out(&mut self, effect: &Effect, fails: bool) -> Event {
        self.carried_out.push(effect.id);
        if fails {
            return failed(effect.id.0, false);
        }
        let package = order().package;
        if effect.job == Job::Publish && !self.published.contains(&package) {
            self.published.push(package);
        }
        done(effect.id.0, effect.job.kind())
    }

    fn publications(&self) -> usize {
        let published = |event: &&Event| matches!(event, Event::Done { done: Done::Published { .. }, .. });
        self.journal.iter().filter(published).count()
    }
}

proptest! {
    /// Whatever fails and wherever the program is killed, it resumes, and publishes exactly once.
    #[test]
    fn a_killed_program_resumes_and_publishes_once(
        kills in proptest::collection::vec((0usize..8, prop_oneof![Just(Kill::Before), Just(Kill::Between), Just(Kill::After)]), 0..12),
        failing in proptest::collection::vec(0u32..4, 6),
    ) {
        // Each job fails a few times at first, but fewer than the policy allows.
        let fails = |effect: &Effect| effect.attempt <= failing[effect.job.kind() as usize].min(3);
        let mut world = World::new();
        for kill in kills {
            world.run(Some(kill), &fails);
        }
        let state = world.run(None, &fails);
        prop_assert_eq!(state.phase(), &Phase::Published { at: 7 });
        prop_assert_eq!(world.publications(), 1);
        prop_assert_eq!(&world.published, &vec![order().package]);
        // Work is only ever repeated for the effect that was in flight.
        prop_assert!(world.carried_out.is_sorted());
        // Once more is no more.
        let again = world.run(None, &fails);
        prop_assert_eq!(again, state);
        prop_assert_eq!(world.publications(), 1);
    }

    /// Every prefix of the journal leads to the same end by the same journal.
    #[test]
    fn any_prefix_of_the_journal_is_a_place_to_resume(failing in proptest::collection::vec(0u32..4, 6)) {
        let fails = |effect: &Effect| effect.attempt <= failing[effect.job.kind() as usize].min(3);
        let mut whole = World::new();
        let end = whole.run(None, &fails);
        for cut in 1..=whole.journal.len() {
            let mut world = World { journal: whole.journal[..cut].to_vec(), ..World::new() };
            prop_assert_eq!(&world.run(None, &fails), &end);
            prop_assert_eq!(&world.journal, &whole.journal);
        }
    }

    /// Old events that turn up again, anywhere, change nothing.
    #[test]
    fn repeated_events_are_harmless(at in 0usize..7, repeats in proptest::collection::vec(0usize..7, 1..6)) {
        let mut whole = World::new();
        let end = whole.run(None, &|_| false);
        let (before, after) = whole.journal.split_at(at.min(whole.journal.len()));
        let old = repeats.into_iter().filter_map(|n| before.get(n).cloned());
        let events: Vec<_> = before.iter().cloned().chain(old).chain(after.iter().cloned()).collect();
        prop_assert_eq!(replay(events), Ok(end));
    }
}
