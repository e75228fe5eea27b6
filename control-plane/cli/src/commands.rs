//! One function per command: ask, then print.

use std::io::Write;
use std::time::Duration;

use control_api::explain::Explanation;
use control_api::rest::{
    Entitlement, EntitlementList, NewPurchase, NewSession, NewTitle, PlaybackSession, Stage, TitleList,
    TitleView,
};
use media::TitleId;
use serde::Serialize;
use tokio::time::Instant;

use crate::arguments::{Add, Arguments, Buy, Command, Connection, Titles, Token};
use crate::client::Api;
use crate::config::{self, Settings};
use crate::error::Error;
use crate::{clock, cost, entropy, mint, render};

/// How often a watched ingest is looked at.
const LOOK_EVERY: Duration = Duration::from_millis(500);

/// Where answers go, and in which form.
struct Printer<'a, W> {
    out: &'a mut W,
    json: bool,
}

impl<W: Write> Printer<'_, W> {
    fn print(&mut self, answer: &impl Serialize, table: impl FnOnce() -> String) -> Result<(), Error> {
        if self.json {
            let text = serde_json::to_string_pretty(answer).map_err(std::io::Error::from)?;
            writeln!(self.out, "{text}")?;
        } else {
            write!(self.out, "{}", table())?;
        }
        Ok(self.out.flush()?)
    }
}

/// Does what was typed.
///
/// # Errors
/// [`Error`] is a text for the operator.
pub(crate) async fn perform(arguments: Arguments, out: &mut impl Write) -> Result<(), Error> {
    let mut printer = Printer { out, json: arguments.json };
    let connection = arguments.connection;
    match arguments.command {
        Command::Titles(Titles::Add(add)) => add_title(connect(connection)?, add, &mut printer).await,
        Command::Titles(Titles::List) => list_titles(connect(connection)?, &mut printer).await,
        Command::Titles(Titles::Show { title }) => {
            show_title(connect(connection)?, &title, &mut printer).await
        }
        Command::Titles(Titles::Watch { title, timeout }) => {
            watch_title(connect(connection)?, &title, timeout, &mut printer).await
        }
        Command::Buy(buy) => sell(connect(connection)?, buy, &mut printer).await,
        Command::Entitlements { viewer } => {
            let path = format!("/v1/viewers/{viewer}/entitlements");
            let list: EntitlementList = connect(connection)?.get(&path).await?;
            printer.print(&list, || render::entitlements(&list.entitlements))
        }
        Command::Session { title, viewer } => {
            let wish = NewSession { viewer, title, device: None, take_over: false };
            let session: PlaybackSession = connect(connection)?.post("/v1/sessions", &wish, None).await?;
            printer.print(&session, || render::session(&session))
        }
        Command::Explain(wish) => {
            let node = Api::of_node(&config::node(wish.node, connection.config)?)?;
            // Kept as it came, so that `--json` shows what this program does not know yet.
            let answer: serde_json::Value = node.get(&format!("/explain?path={}", wish.path)).await?;
            let explanation: Explanation =
                serde_json::from_value(answer.clone()).map_err(std::io::Error::from)?;
            printer.print(&answer, || render::explanation(&explanation))
        }
        Command::Cost(wish) => cost::perform(&wish, printer.out),
        Command::Token(Token::Mint(wish)) => {
            let token = mint::mint(wish, clock::now())?;
            printer.print(&serde_json::json!({ "token": token }), || format!("{token}\n"))
        }
    }
}

fn connect(connection: Connection) -> Result<Api, Error> {
    Api::new(Settings::load(connection)?)
}

async fn add_title(api: Api, add: Add, printer: &mut Printer<'_, impl Write>) -> Result<(), Error> {
    let Add { title, name, source, captions, attribution, tags } = add;
    let wish = NewTitle { title, name, source, captions, attribution, tags };
    let view: TitleView = api.post("/v1/titles", &wish, None).await?;
    printer.print(&view, || render::title(&view))
}

async fn list_titles(api: Api, printer: &mut Printer<'_, impl Write>) -> Result<(), Error> {
    let list: TitleList = api.get("/v1/titles").await?;
    printer.print(&list, || render::titles(&list.titles))
}

async fn show_title(api: Api, title: &TitleId, printer: &mut Printer<'_, impl Write>) -> Result<(), Error> {
    let view: TitleView = api.get(&format!("/v1/titles/{title}")).await?;
    printer.print(&view, || render::title(&view))
}

/// Prints a line whenever something changed, until the film is published, failed, or the time is over.
async fn watch_title(
    api: Api,
    title: &TitleId,
    timeout: Duration,
    printer: &mut Printer<'_, impl Write>,
) -> Result<(), Error> {
    let deadline = Instant::now() + timeout;
    let mut seen = None;
    loop {
        let view: TitleView = api.get(&format!("/v1/titles/{title}")).await?;
        let now = (view.stage, view.progress_percent);
        if seen.replace(now) != Some(now) {
            printer.print(&view, || render::progress(&view))?;
        }
        match view.stage {
            Stage::Published => return Ok(()),
            Stage::Failed => {
                let reason = view.reason.unwrap_or_else(|| "no reason was given".into());
                return Err(Error::IngestFailed { title: title.to_string(), reason });
            }
            stage if Instant::now() + LOOK_EVERY > deadline => {
                return Err(Error::StillRunning { title: title.to_string(), stage: stage.as_str() });
            }
            _ => tokio::time::sleep(LOOK_EVERY).await,
        }
    }
}

async fn sell(api: Api, buy: Buy, printer: &mut Printer<'_, impl Write>) -> Result<(), Error> {
    let key = buy.idempotency_key.map_or_else(entropy::unique, Ok)?;
    let wish = NewPurchase {
        viewer: buy.viewer,
        title: buy.title,
        kind: buy.kind.into(),
        transaction: buy.transaction,
    };
    let right: Entitlement = api.post("/v1/purchases", &wish, Some(&key)).await?;
    printer.print(&right, || render::entitlements(std::slice::from_ref(&right)))
}
