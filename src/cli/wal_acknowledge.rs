//! `lifeboat wal acknowledge`.

use super::verify::{counted, sentence};
use super::{Cli, Exit, Failure, Output, output};
use crate::domain::check::Broke;
use crate::domain::hole::Acknowledged;
use crate::domain::wal::WalName;
use crate::engine::wal::{self, Asked, Place, Refusal};
use crate::render::plain;

/// The `schema` of the JSON document.
const SCHEMA: &str = "lifeboat.wal-acknowledge/1";

/// Arguments.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
A stretch that is lost for good gets an owner, a date and a reason, signed in the store: `verify --wal` then shows it and no longer finds it. It brings nothing back: a restore, a drill and \
`find --reach` still stop before it. Only what is really lost can be acknowledged: what is in the store, in the spool or still at the source is refused. It is never changed or taken back.

  lifeboat wal acknowledge orders --from 000000010000000A000000FF --owner 'Ada, payments' --reason 'disk of db3 died, INC-812'
  lifeboat wal acknowledge orders --from 16/B3000000 --to 16/B5000000 --owner Ada --reason 'INC-812'
  lifeboat wal acknowledge orders --list")]
pub struct Args {
    /// Whose log.
    #[arg(value_name = "POLICY")]
    policy: String,
    /// The first segment that is lost, or a position in it.
    #[arg(long, value_name = "SEGMENT|LSN", required_unless_present = "list")]
    from: Option<String>,
    /// The last one; left out: the last before the next that is there.
    #[arg(long, value_name = "SEGMENT|LSN", requires = "from")]
    to: Option<String>,
    /// Who answers for it.
    #[arg(long, value_name = "NAME", required_unless_present = "list")]
    owner: Option<String>,
    /// Why it is lost.
    #[arg(long, value_name = "TEXT", required_unless_present = "list")]
    reason: Option<String>,
    /// Tell what is acknowledged.
    #[arg(long, conflicts_with_all = ["from", "to", "owner", "reason"])]
    list: bool,
}

/// Runs the verb.
pub(super) async fn run(cli: &Cli, args: &Args) -> Result<Exit, Failure> {
    let house = cli.house()?;
    let policy = house.policy(&args.policy).map_err(Failure::usage)?;
    let (Some(from), Some(owner), Some(reason)) = (&args.from, &args.owner, &args.reason) else {
        let (holes, findings) = wal::holes(&house, policy).await?;
        let exit = if findings.is_empty() { Exit::Ok } else { Exit::Finding };
        if cli.output == Output::Json {
            output::print_json(&serde_json::json!({
                "schema": SCHEMA, "policy": policy.name, "exit_code": exit as u8, "holes": holes, "findings": findings,
            }));
        } else {
            let lines = holes.iter().map(line).chain(findings.iter().map(|one| format!("✗ {}", sentence(one))));
            let text = lines.collect::<Vec<_>>().join("\n");
            output::print(if text.is_empty() { "no hole is acknowledged" } else { &text });
        }
        return Ok(exit);
    };
    let to = args.to.as_deref().map(place).transpose().map_err(Failure::usage)?;
    let from = place(from).map_err(Failure::usage)?;
    let asked = Asked { from, to, owner: owner.clone(), reason: reason.clone() };
    let opener = if house.config.keys.identities.is_empty() { None } else { Some(house.opener()?) };
    let answered =
        wal::acknowledge(&house, policy, &asked, opener.as_ref()).await.map_err(|refusal| match refusal {
            Refusal::Misasked(broke) => Failure::usage(broke),
            Refusal::Broke(broke) => broke.into(),
        })?;
    for warning in &answered.warnings {
        output::warn(&Broke::new(plain(warning)));
    }
    if cli.output == Output::Json {
        output::print_json(&serde_json::json!({ "schema": SCHEMA, "policy": policy.name, "acknowledged": answered }));
    } else {
        let count = counted(answered.segments, "segment");
        output::print(&format!(
            "{} ({count})\nno restore goes over it: take a backup behind it, if there is none",
            line(&answered.hole)
        ));
    }
    Ok(Exit::Ok)
}

fn line(hole: &Acknowledged) -> String {
    plain(&format!("{} to {}: {}", hole.from, hole.to, hole.words()))
}

fn place(text: &str) -> Result<Place, Broke> {
    if let Ok(lsn) = text.parse() {
        return Ok(Place::Lsn(lsn));
    }
    match text.parse() {
        Ok(WalName::Segment(segment)) => Ok(Place::Segment(segment)),
        _ => {
            let hint =
                "write 000000010000000A000000FF or 16/B374D848; `lifeboat verify POLICY --wal` names what is missing";
            Err(Broke::hinted(format!("`{text}` is neither a segment nor a position of the log"), hint))
        }
    }
}
