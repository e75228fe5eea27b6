//! Real players play a real film in real time, without an error.

use std::time::Duration;

use testkit::{Behaviour, Script};

use crate::Stage;
use crate::facts::Facts;
use crate::failure::Outcome;
use crate::gateway::{Node, Setup};
use crate::origin::Origin;
use crate::players::Player;

const PLAYERS: [Player; 6] =
    [Player::Ffmpeg, Player::Gstreamer, Player::Mpv, Player::Vlc, Player::WatchPage, Player::Native];

/// One after the other, so that the machine is not what is proved.
pub(super) async fn run(stage: &Stage, facts: &mut Facts) -> Outcome {
    let cinema = stage.cinema()?;
    let script =
        Script::new(|_, _| Behaviour { latency: Duration::from_millis(20), rate: 20_000_000, fault: None });
    let origin = Origin::start("origin", stage.seed, &cinema.film.package, script).await?;
    let mut node =
        Node::start(&stage.gateway, &stage.home, &cinema.film, &[&origin], Setup::default()).await?;
    let seconds = cinema.film.seconds();
    for player in PLAYERS {
        let url = format!("http://{}{}", node.viewer, cinema.film.main("player")?);
        let scratch = stage.home.join(format!("{player:?}"));
        let played = player.play(&cinema, &scratch, &url, seconds - 1.0).await?;
        facts.add(played.is_smooth(seconds), player.as_str(), format!("of {seconds:.0} s: {played}"));
    }
    node.stop().await
}
