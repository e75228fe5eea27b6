//! Proofs with real players: the film is taken in here, and `proofs` lets them play it.

use super::{Options, Proof, call, fresh};
use crate::demo::{self, world::SourceKind};
use crate::failure::{Context, Outcome};
use crate::setup::{self, Tool};
use crate::shell::{Call, root, tools};
use crate::term;

/// The films, in seconds: one that is played through, and one in the middle of which there is room for trouble.
const PLAYED_THROUGH: u32 = 30;
const WITH_TROUBLE: u32 = 60;
const WITH_TROUBLE_SHORT: u32 = 20;

pub(super) fn run(proof: Proof, options: &Options) -> Outcome {
    let short = options.short && proof == Proof::FailoverPlayers;
    if !short {
        setup::install_system_packages(&setup::PLAYERS)?;
        setup::run(&[Tool::Browser])?;
        let script = setup::browser().join("play.mjs");
        std::fs::copy(root().join("deploy/tools/browser/play.mjs"), &script).doing(script.display())?;
    }
    let seconds = match proof {
        Proof::FailoverPlayers if short => WITH_TROUBLE_SHORT,
        Proof::FailoverPlayers => WITH_TROUBLE,
        _ => PLAYED_THROUGH,
    };
    let playing = fresh("film", SourceKind::Directory, seconds)?;
    term::step("players, in real time");
    let page = format!("http://{}/watch", playing.world.api);
    let film = with_film(call(proof, options)?, &playing.world.data());
    film.args(["--page", &page]).run()?;
    playing.world.stop()
}

/// For the suite, the film that its step before left.
pub(super) fn with_the_suites_film(call: Call) -> Call {
    with_film(call, &demo::short_proof_home().join("data"))
}

fn with_film(call: Call, data: &std::path::Path) -> Call {
    call.arg("--film").arg(data).arg("--tools").arg(tools())
}
