//! Why a command failed, and what the operator can do about it.

use std::path::PathBuf;

use control_api::keys::KeyError;
use control_api::{Problem, ProblemCode, TokenError};

use crate::client::Whose;

/// What ends a command early.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    #[error(
        "no operator key: give --key-file FILE, or key_file in weir.toml; `weir-control-plane init` writes one"
    )]
    NoKeyFile,
    #[error("{0}: {1}")]
    File(PathBuf, std::io::Error),
    #[error("{0}: {1}")]
    Key(PathBuf, KeyError),
    #[error("{0}: {1}")]
    Config(PathBuf, toml::de::Error),
    #[error("{0:?} is no URL of a {1}: {2}")]
    Url(String, Whose, &'static str),
    #[error("the system's certificate store cannot be read: {0}")]
    Certificates(std::io::Error),
    #[error("cannot reach {url}: {reason}; does the {whose} run there?")]
    Unreachable { url: String, whose: Whose, reason: String },
    #[error("{url} gave no answer within {seconds} s")]
    TooSlow { url: String, seconds: u64 },
    #[error("{url} answered {status} with something that is not the {whose}'s: {text}")]
    NotTheApi { url: String, whose: Whose, status: u16, text: String },
    #[error("the node says: {0}")]
    Node(String),
    #[error("{0}{hint}", hint = hint(.0.code))]
    Refused(Box<Problem>),
    #[error("the ingest of {title} failed: {reason}")]
    IngestFailed { title: String, reason: String },
    #[error("{title} is still {stage}; it goes on without me, `weir titles watch {title}` looks again")]
    StillRunning { title: String, stage: &'static str },
    #[error("the token cannot be signed: {0}")]
    Token(#[from] TokenError),
    #[error("{0}")]
    Cost(String),
    #[error("no randomness: {0}")]
    Entropy(std::io::Error),
    #[error("cannot write the answer: {0}")]
    Output(#[from] std::io::Error),
}

/// What to try next.
fn hint(code: ProblemCode) -> &'static str {
    match code {
        ProblemCode::Unauthorized => "\n  the key file must be the one this control plane uses: --key-file",
        ProblemCode::NoEntitlement => "\n  sell it first: weir buy TITLE --viewer VIEWER",
        ProblemCode::StartWindowOver | ProblemCode::FinishWindowOver => {
            "\n  the viewer can rent it again: weir buy TITLE --viewer VIEWER"
        }
        ProblemCode::NoSuchTitle => "\n  weir titles list shows what there is",
        ProblemCode::TitleNotPublished => "\n  weir titles watch TITLE follows its ingest",
        ProblemCode::SourceNotFound => "\n  paths are relative to the mezzanine store",
        ProblemCode::Overloaded | ProblemCode::Unavailable => "\n  try again in a while",
        _ => "",
    }
}
