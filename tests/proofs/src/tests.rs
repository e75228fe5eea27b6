//! The instruments themselves: a viewer straight at an origin sees each fault for what it is.

use sourcing::Reason;
use testkit::{Behaviour, Fault, Script, Version};

use crate::film::{Film, Piece};
use crate::origin::Origin;
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
