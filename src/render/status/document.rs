//! The same for machines.

use jiff::Timestamp;
use serde_json::{Value, json};

use super::{Paging, Stand, by_backup, newest_copies, next_steps, overall, recovery_times};
use crate::render::mutations;

/// The `schema` of the JSON.
pub const STATUS_SCHEMA: &str = "lifeboat.status/1";

/// The same for machines; spans are seconds.
pub fn document(stands: &[Stand<'_>], paging: Option<Paging>, now: Timestamp) -> Value {
    let policies: Vec<Value> = stands
        .iter()
        .map(|stand| {
            let (policy, standing) = (stand.policy, &stand.standing);
            let times = recovery_times(&stand.drills);
            json!({
                "policy": policy.name,
                "owner": policy.owner,
                "verdict": standing.verdict,
                "wrong": standing.wrong,
                "next_steps": next_steps(stand),
                "objectives": policy.objectives,
                "exposure": standing.exposure,
                "covered": standing.covered,
                "exposure_window": standing.window.map(|window| json!({
                    "from": window.from, "to": window.to, "worst": window.worst, "worst_at": window.worst_at,
                    "within_rpo_percent": f64::from(window.within) / 100.0,
                })),
                "rpa": standing.rpa,
                "rta": standing.rta,
                "rta_history": times.map(|t| json!({ "drills": t.drills, "p50": t.p50, "p95": t.p95, "worst": t.worst })),
                "last_backup": standing.last_backup,
                "last_proven": standing.last_proven.map(|(run, at, age)| json!({ "run": run, "at": at, "age": age })),
                "backups": by_backup(&stand.artifacts).len(),
                "copies": stand.artifacts.len() - by_backup(&stand.artifacts).len(),
                "newest_copies": newest_copies(stand).into_iter().map(|(store, within, copy)| json!({
                    "store": store, "within": within, "copy": copy,
                })).collect::<Vec<_>>(),
                "read_back": stand.read_back.map(|backups| json!({
                    "within": policy.read_back_within, "percent": f64::from(backups.share) / 100.0, "oldest": backups.oldest, "wrong": backups.wrong,
                })),
                "detection": mutations::newest(&stand.tests).into_iter().map(|test| json!({
                    "run": test.run,
                    "drill": test.drill,
                    "finished_at": test.finished_at,
                    "score": test.score,
                })).collect::<Vec<_>>(),
                "drills": stand.drills.iter().map(|drill| json!({
                    "run": drill.run,
                    "drill": drill.drill,
                    "finished_at": drill.finished_at,
                    "verdict": drill.judgement.verdict,
                    "rpa": drill.judgement.rpa,
                    "rta": drill.judgement.rta,
                })).collect::<Vec<_>>(),
            })
        })
        .collect();
    let mut document = json!({ "schema": STATUS_SCHEMA, "at": now, "verdict": overall(stands), "policies": policies });
    if let Some(paging) = paging {
        let Paging { page, per_page, policies } = paging;
        document["page"] =
            json!({ "number": page, "of": paging.pages(), "per_page": per_page, "policies_in_all": policies });
    }
    document
}
