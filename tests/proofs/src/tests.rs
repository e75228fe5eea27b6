//! The instruments themselves: a viewer straight at an origin sees each fault for what it is.

use std::time::Duration;

use sourcing::Reason;
use testkit::{Behaviour, Fault, Script, Version};
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::clock::until;
use crate::film::{Film, Piece};
use crate::origin::{Origin, State};
use crate::viewer::{Ending, Viewer, Wish};

/// A whole object of the package, as an origin offers it.
fn object(film: &Film) -> Piece {
    let segment = film.segments().pop().expect("a segment");
    let bytes = film.package.object(&segment.object).expect("its object");
    Piece { path: format!("/{}", segment.object), start: 0, bytes, ..segment }
}

async fn ask(fault: Option<Fault>, range: Option<(u64, u64)>) -> Ending {
    let film = Film::of_segments(1, vec![100_000]).expect("a film");
    let script = Script::new(move |_, _| Behaviour { rate: u64::MAX, fault, ..Behaviour::default() });
    let origin = Origin::start("origin", 1, &film.package, script).await.expect("a port");
    let piece = object(&film);
    let wish = Wish { range, ..Wish::whole(&piece) };
    Viewer::new(&origin.address.to_string()).ask(&wish).await.ending
}

#[tokio::test]
async fn every_fault_is_seen_for_what_it_is() {
    for range in [None, Some((1_000, 90_000))] {
        let check = async |fault, fits: fn(&Ending) -> bool| {
            let ending = ask(fault, range).await;
            assert!(fits(&ending), "{fault:?} {range:?}: {ending:?}");
        };
        check(None, |ending| *ending == Ending::Right).await;
        check(Some(Fault::Version(Version::Tag)), |ending| *ending == Ending::Right).await;
        check(Some(Fault::Cut(50_000)), |ending| matches!(ending, Ending::Broken(_))).await;
        check(Some(Fault::Reset(50_000)), |ending| matches!(ending, Ending::Broken(_))).await;
        for wrong in [Fault::Flip(50_000), Fault::Version(Version::Bytes), Fault::Version(Version::Length)] {
            check(Some(wrong), |ending| matches!(ending, Ending::Wrong(_))).await;
        }
        check(Some(Fault::Refuse(Reason::Throttled)), |ending| *ending == Ending::Refused(503)).await;
        check(Some(Fault::Refuse(Reason::Unavailable)), |ending| *ending == Ending::Unanswered).await;
    }
}

#[tokio::test]
async fn an_origin_counts_what_it_gave() {
    let film = Film::of_segments(1, vec![100_000]).expect("a film");
    let script = Script::new(|_, _| Behaviour { rate: u64::MAX, ..Behaviour::default() });
    let origin = Origin::start("origin", 1, &film.package, script).await.expect("a port");
    let piece = object(&film);
    let mut viewer = Viewer::new(&origin.address.to_string());
    for wish in [Wish::part(&piece, 0, 10), Wish::part(&piece, 5, 25), Wish::whole(&piece)] {
        assert_eq!(viewer.ask(&wish).await.ending, Ending::Right, "one connection, one after the other");
    }
    assert_eq!((origin.count(), origin.given()), (3, 30 + piece.len()));
    assert_eq!(
        origin.asked(&piece.object, 12, 1).iter().map(|asked| asked.sent).collect::<Vec<_>>(),
        [20, piece.len()]
    );
}

#[tokio::test]
async fn an_origin_goes_away_in_each_way_and_comes_back() {
    let film = Film::of_segments(1, vec![100_000]).expect("a film");
    let script = Script::new(|_, _| Behaviour { rate: 2_000_000, ..Behaviour::default() });
    let origin = Origin::start("origin", 1, &film.package, script).await.expect("a port");
    let piece = object(&film);
    let address = origin.address.to_string();
    for state in [State::Killed, State::Silent, State::Vanished] {
        // It goes while a body is under way.
        let (address_of_one, piece_of_one) = (address.clone(), piece.clone());
        let mut one =
            tokio::spawn(async move { Viewer::new(&address_of_one).ask(&Wish::whole(&piece_of_one)).await });
        let under_way = async || (origin.sending() == 1).then_some(());
        until("a body is under way", Duration::from_secs(5), under_way).await.expect("under way");
        origin.turn(state).await.expect("turned");
        let silent = timeout(Duration::from_millis(300), &mut one).await;
        match state {
            State::Killed => {
                let seen = silent.expect("no silence").expect("seen");
                assert!(matches!(seen.ending, Ending::Broken(_)), "{:?}", seen.ending);
            }
            _ => assert!(silent.is_err(), "{state:?} says nothing"),
        }
        one.abort();
        let connect = timeout(Duration::from_millis(300), TcpStream::connect(&address)).await;
        let connected = connect.map(|socket| socket.is_ok()).ok();
        let expected = match state {
            State::Killed => Some(false),
            State::Vanished => None,
            State::Silent | State::Up => Some(true),
        };
        assert_eq!(connected, expected, "{state:?}");
        origin.turn(State::Up).await.expect("turned");
        let seen = Viewer::new(&address).ask(&Wish::whole(&piece)).await;
        assert_eq!(seen.ending, Ending::Right, "after {state:?}");
    }
}
