//! `lifeboat init --control-plane`: a policy and a drill for lifeboat itself, beside those that are there.

use crate::cli::{Cli, Exit, Failure, Output, output};
use crate::domain::check::Broke;
use crate::domain::drill::Drill;
use crate::domain::ids::PolicyName;
use crate::domain::policy::Policy;
use crate::load;

use super::{NewFile, toml_string, write_all};

const POLICY: &str = include_str!("control-plane.toml");
const DRILL: &str = include_str!("../../../drills/control-plane-loss.toml");
/// The policy's name.
const NAME: &str = "lifeboat";

/// Writes both, or neither; nothing that exists is replaced. Recipients and store are those of `wanted`, or of the first policy.
pub(super) fn make(cli: &Cli, wanted: Option<&PolicyName>) -> Result<Exit, Failure> {
    let loaded = cli.load(load::load)?;
    if let Some(there) = loaded.policies.iter().find(|policy| policy.is_of_control_plane()) {
        let error = format!("there is already a policy for lifeboat itself: {}", there.file.display());
        return Err(Failure::usage(Broke::hinted(error, format!("lifeboat backup {}", there.name))));
    }
    let like = match wanted {
        Some(name) => crate::engine::house::policy_named(&loaded.policies, name.as_str()).map_err(Failure::usage)?,
        None => loaded.policies.first().ok_or_else(|| {
            Failure::usage(Broke::hinted(
                "there is no policy whose store and recipients could be taken",
                "write one first: lifeboat init URL",
            ))
        })?,
    };
    let policy = NewFile {
        path: loaded.config.policies.join(format!("{NAME}.toml")).display().to_string(),
        text: text(like)?,
        private: false,
    };
    let has_drill = |drill: &Drill| drill.name.as_str() == "control-plane-loss";
    let drill = (!loaded.drills.iter().any(has_drill)).then(|| NewFile {
        path: loaded.config.drills.join("control-plane-loss.toml").display().to_string(),
        text: DRILL.to_owned(),
        private: false,
    });
    let files: Vec<NewFile> = [policy].into_iter().chain(drill).collect();
    let dir = loaded.config.file.parent().map(std::path::Path::to_owned).unwrap_or_default();
    write_all(&dir, &files).map_err(Failure::usage)?;
    if cli.output == Output::Json {
        let written: Vec<&str> = files.iter().map(|file| file.path.as_str()).collect();
        output::print_json(&serde_json::json!({
            "schema": "lifeboat.init-control-plane/1", "policy": NAME, "written": written, "like": like.name,
        }));
    } else {
        let written: String = files.iter().map(|file| format!("  {}\n", file.path)).collect();
        output::print(&format!(
            "Written, with the store and the recipients of {}:\n{written}Go on with: lifeboat backup {NAME} && lifeboat drill {NAME}\n",
            like.name
        ));
    }
    Ok(Exit::Ok)
}

fn text(like: &Policy) -> Result<String, Failure> {
    let job = like.backups.first().ok_or_else(|| Failure::usage(Broke::new("that policy takes no backup")))?;
    let recipients: Vec<String> = like.encryption.recipients.iter().map(|one| toml_string(one)).collect();
    Ok(POLICY
        .replace("@NAME@", NAME)
        .replace("\"@OWNER@\"", &toml_string(&like.owner))
        .replace("@STORE@", job.store.as_str())
        .replace("@RECIPIENTS@", &recipients.join(", ")))
}
