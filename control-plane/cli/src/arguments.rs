//! What can be typed.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Parser, Subcommand, ValueEnum};
use control_api::rest::{CaptionSource, EntitlementKind};
use control_api::{SessionId, ViewerId};
use media::{Tag, TitleId};

use crate::cost::Cost;

/// The operator's command line.
#[derive(Debug, Parser)]
#[command(
    name = "weir",
    version,
    about = "Take films in, sell rights, open playback sessions, count the money"
)]
pub(crate) struct Arguments {
    #[command(flatten)]
    pub(crate) connection: Connection,
    /// Print the API's JSON instead of tables
    #[arg(long, global = true)]
    pub(crate) json: bool,
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// Whom to talk to. Everything here can also stand in `weir.toml`.
#[derive(Debug, Args)]
pub(crate) struct Connection {
    /// The control plane [default: api of weir.toml, else http://127.0.0.1:8470]
    #[arg(long, global = true, value_name = "URL")]
    pub(crate) api: Option<String>,
    /// The file with the operator key, as `weir-control-plane init` wrote it
    #[arg(long, global = true, value_name = "FILE")]
    pub(crate) key_file: Option<PathBuf>,
    /// The configuration file [default: ./weir.toml if there is one]
    #[arg(long, global = true, value_name = "FILE")]
    pub(crate) config: Option<PathBuf>,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Films and their ingest
    #[command(subcommand)]
    Titles(Titles),
    /// Sell a viewer the right to a title
    Buy(Buy),
    /// The rights of a viewer
    Entitlements {
        /// Who
        viewer: ViewerId,
    },
    /// Open a playback session and print its URL
    Session {
        /// What to watch
        title: TitleId,
        /// Who watches
        #[arg(long)]
        viewer: ViewerId,
    },
    /// Playback tokens without the control plane, to test gateways
    #[command(subcommand)]
    Token(Token),
    /// What a node has of a path, and where it would buy the rest now
    Explain(Explain),
    /// What delivery costs: reports, simulations, advice; offline
    #[command(subcommand)]
    Cost(Cost),
}

#[derive(Debug, Args)]
pub(crate) struct Explain {
    /// A segment or object: `TITLE/PACKAGE/v720/7.m4s`, or a viewer's URL, whose token is not passed on
    #[arg(value_parser = bare_path)]
    pub(crate) path: String,
    /// The node's admin address [default: node of weir.toml, else http://127.0.0.1:8481]
    #[arg(long, value_name = "URL")]
    pub(crate) node: Option<String>,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Titles {
    /// Take a film in; `titles watch` follows what happens to it
    Add(Add),
    /// All films
    List,
    /// One film, with its renditions and what the package check found
    Show {
        /// Which
        title: TitleId,
    },
    /// Follow an ingest until the film is published
    Watch {
        /// Which
        title: TitleId,
        /// When to give up
        #[arg(long, default_value = "6h", value_parser = humantime::parse_duration)]
        timeout: Duration,
    },
}

#[derive(Debug, Args)]
pub(crate) struct Add {
    /// How URLs will name it: `big-buck-bunny`
    pub(crate) title: TitleId,
    /// How people name it
    #[arg(long)]
    pub(crate) name: String,
    /// The mezzanine's path within the mezzanine store
    #[arg(long)]
    pub(crate) source: String,
    /// A caption file of the mezzanine store: `en=captions/film.en.vtt`; may be repeated
    #[arg(long = "captions", value_name = "LANGUAGE=PATH", value_parser = captions)]
    pub(crate) captions: Vec<CaptionSource>,
    /// Whom to credit, as the licence asks
    #[arg(long)]
    pub(crate) attribution: Option<String>,
    /// What purges can name besides the title: `vendor-acme`; may be repeated
    #[arg(long = "tag", value_name = "TAG")]
    pub(crate) tags: Vec<Tag>,
}

#[derive(Debug, Args)]
pub(crate) struct Buy {
    /// What
    pub(crate) title: TitleId,
    /// Who buys
    #[arg(long)]
    pub(crate) viewer: ViewerId,
    /// For a while or for good
    #[arg(long, value_enum, default_value = "rental")]
    pub(crate) kind: Kind,
    /// Repeating a purchase with the same key buys once [default: a new key]
    #[arg(long, value_name = "KEY")]
    pub(crate) idempotency_key: Option<String>,
    /// The transaction by which the viewer's device has paid, where devices pay
    #[arg(long, value_name = "ID")]
    pub(crate) transaction: Option<String>,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
pub(crate) enum Kind {
    Rental,
    Purchase,
}

impl From<Kind> for EntitlementKind {
    fn from(kind: Kind) -> Self {
        match kind {
            Kind::Rental => Self::Rental,
            Kind::Purchase => Self::Purchase,
        }
    }
}

#[derive(Debug, Subcommand)]
pub(crate) enum Token {
    /// Sign a token with the control plane's private key
    Mint(Mint),
}

#[derive(Debug, Args)]
pub(crate) struct Mint {
    /// The file with the private token key
    #[arg(long, value_name = "FILE")]
    pub(crate) token_key: PathBuf,
    /// The title it opens
    #[arg(long)]
    pub(crate) title: TitleId,
    /// The session's name [default: a random one]
    #[arg(long)]
    pub(crate) session: Option<SessionId>,
    /// Who signs
    #[arg(long, default_value = "weir")]
    pub(crate) issuer: String,
    /// How long ago it was signed; with a short life this makes an expired token
    #[arg(long, default_value = "0s", value_parser = humantime::parse_duration)]
    pub(crate) age: Duration,
    /// How long it lives from then on
    #[arg(long, default_value = "1h", value_parser = humantime::parse_duration)]
    pub(crate) life: Duration,
}

/// What a URL names below its token.
fn bare_path(text: &str) -> Result<String, String> {
    let path = text.split(['?', '#']).next().unwrap_or_default();
    let path =
        path.split_once("://").map_or(path, |(_, rest)| rest.split_once('/').map_or("", |(_, path)| path));
    let path = path.strip_prefix('/').unwrap_or(path);
    let path =
        path.strip_prefix("p/").and_then(|rest| rest.split_once('/')).map_or(path, |(_token, path)| path);
    let plain = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'/' | b'.' | b'-' | b'_');
    if path.contains('/') && path.bytes().all(plain) {
        Ok(path.to_owned())
    } else {
        Err("expected TITLE/PACKAGE/... or a viewer's URL".into())
    }
}

fn captions(text: &str) -> Result<CaptionSource, String> {
    let (language, source) =
        text.split_once('=').ok_or("expected LANGUAGE=PATH, for example en=film.en.vtt")?;
    if source.is_empty() {
        return Err("the path after = is empty".into());
    }
    let language = language.parse().map_err(|error| format!("{error}"))?;
    Ok(CaptionSource { language, source: source.to_owned() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_well_formed() {
        use clap::CommandFactory;
        Arguments::command().debug_assert();
    }

    #[test]
    fn paths_lose_host_and_token() {
        let path = "bbb/00000000000000ff/v720/7.m4s";
        for text in [
            path.to_owned(),
            format!("/{path}"),
            format!("/p/to-ken/{path}"),
            format!("https://edge.example:8443/p/to-ken/{path}?CMCD=su#x"),
        ] {
            assert_eq!(bare_path(&text).as_deref(), Ok(path), "{text}");
        }
        for bad in ["", "bbb", "https://edge.example", "a/b c", "a/%2e"] {
            assert!(bare_path(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn caption_files() {
        let good = captions("pt-br=subs/a.vtt").expect("well formed");
        assert_eq!((good.language.as_str(), good.source.as_str()), ("pt-br", "subs/a.vtt"));
        for bad in ["", "en", "en=", "=a.vtt", "EN GB=a.vtt"] {
            assert!(captions(bad).is_err(), "{bad:?}");
        }
    }
}
