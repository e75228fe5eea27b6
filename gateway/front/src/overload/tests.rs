use std::time::Duration;

use super::*;

#[track_caller]
fn check(level: Level, asks: &str, active: usize, cdn: bool, expected: Verdict) {
    let ask = Ask { opens: asks.contains("open"), known: asks.contains("known"), active };
    assert_eq!(verdict(ask, level, 100, cdn), expected, "{level:?} {asks} {active} {cdn}");
}

#[test]
fn new_sessions_go_first_and_known_ones_last() {
    use Level::{Calm, NoDiskAdmission, NoNewSessions, Refusing};
    use Verdict::{SendAway as Away, Serve};
    let refuse = Verdict::Refuse;
    for asks in ["open", "segment", "known open", "known segment"] {
        check(Calm, asks, 100, true, Serve);
        check(NoDiskAdmission, asks, 100, true, Serve);
    }
    check(NoNewSessions, "open", 1, true, Away);
    check(NoNewSessions, "open", 1, false, refuse(Shed::Session));
    check(NoNewSessions, "known open", 1, true, Serve);
    check(NoNewSessions, "segment", 1, true, Serve);
    check(Refusing, "open", 1, true, Away);
    check(Refusing, "segment", 1, true, refuse(Shed::Stranger));
    check(Refusing, "known segment", 1, true, Serve);
    // The bound on responses holds between two looks of the governor as well.
    check(Calm, "segment", 101, true, refuse(Shed::Stranger));
    check(Calm, "open", 101, true, Away);
    check(Calm, "known segment", 101, true, Serve);
    check(Calm, "known segment", 125, true, Serve);
    check(Calm, "known segment", 126, true, refuse(Shed::Known));
    check(Calm, "open", 126, true, refuse(Shed::Stranger));
}

#[tokio::test(start_paused = true)]
async fn a_session_is_known_while_it_is_being_served() {
    let config = OverloadConfig { session_memory: Duration::from_secs(60), ..OverloadConfig::default() };
    let load = Arc::<Load>::default();
    let overload = Overload::new(&config, &load, false, Instant::now());
    let session: SessionId = "s1".parse().expect("a session");
    let judge = |session: &SessionId| overload.judge(false, 1, Instant::now(), || Some(session.clone()));
    assert!(overload.serves(&session, Instant::now()).is_some());
    load.set(Level::Refusing);
    assert_eq!(judge(&session), Verdict::Serve);
    assert_eq!(judge(&"s2".parse().expect("a session")), Verdict::Refuse(Shed::Stranger));
    assert_eq!(overload.judge(false, 1, Instant::now(), || None), Verdict::Refuse(Shed::Stranger));
    tokio::time::advance(Duration::from_secs(130)).await;
    assert_eq!(judge(&session), Verdict::Refuse(Shed::Stranger), "long gone");
}

#[tokio::test(start_paused = true)]
async fn after_a_takeover_nobody_in_the_middle_of_a_film_is_a_stranger() {
    let load = Arc::<Load>::default();
    let overload = Overload::new(&OverloadConfig::default(), &load, true, Instant::now());
    load.set(Level::Refusing);
    let judge = |opens| overload.judge(opens, 1, Instant::now(), || None);
    assert_eq!(judge(false), Verdict::Serve);
    assert_eq!(judge(true), Verdict::Refuse(Shed::Session));
    tokio::time::advance(LEARNING).await;
    assert_eq!(judge(false), Verdict::Refuse(Shed::Stranger));
}

#[tokio::test(start_paused = true)]
async fn refused_viewers_come_back_one_by_one() {
    let overload = Overload::new(&OverloadConfig::default(), &Arc::default(), false, Instant::now());
    let mut seen = [0; 16];
    for n in 0..900 {
        let seconds = overload.retry_after(&format!("token-{n}"));
        assert!((2..=10).contains(&seconds), "{seconds}");
        assert_eq!(overload.retry_after(&format!("token-{n}")), seconds, "the same for the same viewer");
        seen[seconds as usize] += 1;
    }
    assert!(seen[2..=10].iter().all(|count| (60..140).contains(count)), "{seen:?}");
}

#[tokio::test(start_paused = true)]
async fn the_same_path_at_the_cdn() {
    for base in ["https://cdn.example/films", "https://cdn.example/films/"] {
        let config = OverloadConfig { cdn: Some(base.to_owned()), ..OverloadConfig::default() };
        let overload = Overload::new(&config, &Arc::default(), false, Instant::now());
        let there = overload.elsewhere("/p/t/bbb/00000000000000ff/main.m3u8");
        let expected = "https://cdn.example/films/p/t/bbb/00000000000000ff/main.m3u8";
        assert_eq!(there.as_deref(), Some(expected));
    }
}
