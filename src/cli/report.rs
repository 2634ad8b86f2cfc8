//! `lifeboat report`.

use std::fs::OpenOptions;
use std::io::Write as _;
use std::path::{Path, PathBuf};

use crate::domain::check::Broke;
use crate::domain::ids::{PolicyName, RunId};
use crate::domain::mutation::DrillTest;
use crate::domain::run::{Run, Work};
use crate::domain::transcript::Transcript;
use crate::engine::House;
use crate::render::{html, mutations, report};

use super::{Cli, Exit, Failure, Output, output};

/// How far back a drill is looked for.
const LOOK_BACK: usize = 10_000;

/// What every page of ours has in it, and no page of anybody else's.
const MARK: &str = "<meta name=\"generator\" content=\"lifeboat\">";

/// Arguments.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The run of a drill or of a test of one (`drill --mutate`), or a policy (its newest drill); none: the newest drill of all.
    #[arg(value_name = "RUN|POLICY")]
    what: Option<String>,
    /// Write it as an HTML page that stands alone; without a file into the folder of reports. A file that is not a
    /// report of lifeboat's is never overwritten.
    #[arg(long, value_name = "FILE", num_args = 0..=1)]
    html: Option<Option<PathBuf>>,
}

/// Runs the verb. The exit code is that of the verdict.
pub async fn run(cli: &Cli, args: &Args) -> Result<Exit, Failure> {
    let house = cli.house()?;
    if let Some(run) = args.what.as_deref().and_then(|what| what.parse::<RunId>().ok())
        && let Some(test) = house.catalog.drill_test(run).await?
    {
        return show_test(cli, &house, args, test);
    }
    let transcript = find(&house, args.what.as_deref()).await?;
    if let Some(file) = &args.html {
        let path = file.clone().unwrap_or_else(|| default_page(&house, &transcript));
        write_page(&path, &transcript)?;
        match cli.output {
            // Standard output is for the document alone.
            Output::Json => output::say(&format!("wrote {}", path.display())),
            Output::Table => {
                let verdict = transcript.judgement.verdict.as_str();
                output::print(&format!(
                    "{} {}: {verdict}\n{}",
                    transcript.policy,
                    transcript.drill.name,
                    path.display()
                ));
            }
        }
    }
    match (cli.output, &args.html) {
        (Output::Json, _) => output::print_json(&transcript),
        (Output::Table, Some(_)) => {}
        (Output::Table, None) => {
            output::print(&report::terminal(&transcript, output::width(), output::color_on_stdout()))
        }
    }
    Ok(super::status::exit(transcript.judgement.verdict))
}

/// The report of a test of a drill. The exit code is that of the test.
fn show_test(cli: &Cli, house: &House, args: &Args, test: DrillTest) -> Result<Exit, Failure> {
    let page = match &args.html {
        None => None,
        Some(None) => Some(write_test_page(house, &test)?),
        Some(Some(path)) => Some(write_text(path, &mutations::page(&test)).map(|()| path.clone())?),
    };
    match (cli.output, page) {
        (Output::Json, page) => {
            if let Some(path) = page {
                output::say(&format!("wrote {}", path.display()));
            }
            output::print_json(&mutations::document(std::slice::from_ref(&test)));
        }
        (Output::Table, Some(path)) => output::print(&path.display().to_string()),
        (Output::Table, None) => {
            output::print(&mutations::terminal(&test, output::width(), output::color_on_stdout()));
        }
    }
    Ok(super::mutate::exit(&[test]))
}

/// The page of a test, in the folder of reports.
pub(super) fn write_test_page(house: &House, test: &DrillTest) -> Result<PathBuf, Failure> {
    let path = house.config.reports.join(format!("{}-{}.html", test.policy, test.run));
    write_text(&path, &mutations::page(test)).map(|()| path)
}

/// Where the page of a drill lies when nobody says.
pub(super) fn default_page(house: &House, transcript: &Transcript) -> PathBuf {
    house.config.reports.join(format!("{}-{}.html", transcript.policy, transcript.run))
}

/// Writes the page of a drill.
pub(super) fn write_page(path: &Path, transcript: &Transcript) -> Result<(), Failure> {
    write_text(path, &html::page(transcript))
}

/// Writes a page, whole or not at all; overwrites nothing but an older page of lifeboat's.
fn write_text(path: &Path, page: &str) -> Result<(), Failure> {
    let broke = |error: std::io::Error| {
        Broke::hinted(
            format!("the report cannot be written to {}: {error}", path.display()),
            "name another file: --html FILE",
        )
    };
    if path.exists() {
        let ours = std::fs::read(path).map(|bytes| bytes.windows(MARK.len()).any(|window| window == MARK.as_bytes()));
        if !ours.unwrap_or(false) {
            let error = format!("{} exists, and is no report of lifeboat's", path.display());
            return Err(Failure::usage(Broke::hinted(error, "name another file: --html FILE")));
        }
    }
    if let Some(folder) = path.parent().filter(|folder| !folder.as_os_str().is_empty()) {
        std::fs::create_dir_all(folder).map_err(broke)?;
    }
    let mut beside = path.as_os_str().to_owned();
    beside.push(format!(".{}.new", std::process::id()));
    let beside = PathBuf::from(beside);
    let written = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .open(&beside)
        .and_then(|mut file| file.write_all(page.as_bytes()).and_then(|()| file.sync_all()))
        .and_then(|()| std::fs::rename(&beside, path));
    if written.is_err() {
        let _ = std::fs::remove_file(&beside);
    }
    Ok(written.map_err(broke)?)
}

/// The transcript that the argument names.
async fn find(house: &House, what: Option<&str>) -> Result<Transcript, Failure> {
    let Some(what) = what else {
        return newest(house).await?.ok_or_else(|| nothing("no drill has run yet"));
    };
    if let Ok(run) = what.parse::<RunId>() {
        return of_run(house, run).await;
    }
    // A policy that is configured no more still has its drills in the catalog.
    if let Ok(policy) = what.parse::<PolicyName>()
        && let Some(transcript) = house.catalog.transcripts(&policy, 1).await?.into_iter().next()
    {
        return Ok(transcript);
    }
    if house.policy(what).is_ok() {
        return Err(nothing(&format!("no drill of the policy {what} has run yet")));
    }
    let runs = drills(house).await?;
    if let Some(run) = runs.iter().find(|run| what.len() >= 4 && run.id.to_string().starts_with(what)) {
        let error = format!("`{what}` is neither a run nor a policy");
        return Err(Failure::usage(Broke::hinted(error, format!("did you mean the run {}?", run.id))));
    }
    let broke = house.policy(what).err().unwrap_or_else(|| Broke::new("there is no such policy"));
    let hint = broke.hint.unwrap_or_default();
    let error = format!("`{what}` is neither a run nor a policy");
    Err(Failure::usage(Broke::hinted(error, format!("{hint} (`lifeboat catalog runs` lists runs)"))))
}

fn nothing(what: &str) -> Failure {
    Failure::usage(Broke::hinted(what, "`lifeboat drill POLICY` runs one"))
}

async fn drills(house: &House) -> Result<Vec<Run>, Broke> {
    let runs = house.catalog.runs(None, LOOK_BACK).await?;
    Ok(runs.into_iter().filter(|run| matches!(run.work, Work::Drill { .. })).collect())
}

async fn newest(house: &House) -> Result<Option<Transcript>, Broke> {
    for run in drills(house).await? {
        if let Some(transcript) = house.catalog.transcript(run.id).await? {
            return Ok(Some(transcript));
        }
    }
    Ok(None)
}

async fn of_run(house: &House, run: RunId) -> Result<Transcript, Failure> {
    if let Some(transcript) = house.catalog.transcript(run).await? {
        return Ok(transcript);
    }
    let hint = "`lifeboat catalog runs` lists runs";
    let error = match house.catalog.run(run).await? {
        None => format!("there is no run {run}"),
        Some(Run { work: work @ Work::Drill { .. }, state, .. }) => {
            format!("the run {run} ({}) has no report: {}", work.title(), crate::render::status::state(&state).0)
        }
        Some(other) => format!("the run {run} is no drill but a {}", other.work.title()),
    };
    Err(Failure::usage(Broke::hinted(error, hint)))
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::catalog::{self, Opened};
    use crate::domain::run::Event;
    use crate::domain::sample::{self, at};

    /// A house with one policy and an empty catalog.
    pub(in crate::cli) async fn house() -> (House, tempfile::TempDir) {
        let folder = tempfile::tempdir().unwrap();
        let mut config = sample::config();
        config.catalog = folder.path().join("lifeboat.db").into();
        config.reports = folder.path().join("reports");
        let Opened { catalog, queue, outbox } = catalog::open(&config.catalog).unwrap();
        let drills = vec![sample::physical().drill];
        let house = House {
            config,
            policies: vec![sample::policy()].into(),
            drills,
            warnings: Vec::new(),
            catalog,
            queue,
            outbox,
            stand_ins: Default::default(),
            only: None,
            buckets: Default::default(),
            fence: None,
        };
        (house, folder)
    }

    async fn drilled(house: &House, transcript: &Transcript) {
        let work = Work::Drill { drill: transcript.drill.name.clone() };
        for event in [Event::Planned { work, scheduled_for: None }, Event::Drilled(Box::new(transcript.clone()))] {
            house.catalog.append(transcript.started_at, &transcript.policy, transcript.run, event).await.unwrap();
        }
    }

    #[tokio::test]
    async fn a_drill_is_found_by_run_by_policy_or_as_the_newest() {
        let (house, _folder) = house().await;
        let failure = find(&house, None).await.unwrap_err();
        assert_eq!((failure.exit, failure.text.as_str()), (Exit::Usage, "no drill has run yet"));
        let failure = find(&house, Some("orders")).await.unwrap_err();
        assert!(failure.text.contains("no drill of the policy orders"));

        let older = sample::judged(sample::physical());
        let mut newer = sample::judged(sample::logical_with_findings());
        newer.policy = "billing".parse().unwrap();
        drilled(&house, &older).await;
        drilled(&house, &newer).await;
        assert_eq!(find(&house, None).await.unwrap(), newer);
        assert_eq!(find(&house, Some("orders")).await.unwrap(), older);
        assert_eq!(find(&house, Some("billing")).await.unwrap(), newer, "it is configured no more");
        assert_eq!(find(&house, Some(&older.run.to_string())).await.unwrap(), older);
    }

    #[tokio::test]
    async fn what_is_not_there_is_said_with_what_is() {
        let (house, _folder) = house().await;
        let transcript = sample::judged(sample::physical());
        drilled(&house, &transcript).await;
        let planned = Event::Planned { work: Work::Verify, scheduled_for: None };
        house.catalog.append(at("2026-11-20T00:00:00Z"), &transcript.policy, sample::run(7), planned).await.unwrap();
        let half = &transcript.run.to_string()[..13];
        for (what, text, hint) in [
            ("ordres".to_owned(), "neither a run nor a policy", "did you mean `orders`"),
            (half.to_owned(), "neither a run nor a policy", "did you mean the run"),
            (sample::run(99).to_string(), "there is no run", "lifeboat catalog runs"),
            (sample::run(7).to_string(), "is no drill but a verify", "lifeboat catalog runs"),
        ] {
            let failure = find(&house, Some(&what)).await.unwrap_err();
            assert_eq!(failure.exit, Exit::Usage);
            assert!(failure.text.contains(text), "{what}: {}", failure.text);
            assert!(failure.hint.as_ref().unwrap().contains(hint), "{what}: {:?}", failure.hint);
        }
    }

    #[tokio::test]
    async fn a_page_overwrites_only_a_page() {
        let (house, folder) = house().await;
        let transcript = sample::judged(sample::physical());
        let path = default_page(&house, &transcript);
        write_page(&path, &transcript).unwrap();
        write_page(&path, &transcript).unwrap();
        assert!(std::fs::read_to_string(&path).unwrap().contains("157,286 pages"));
        assert_eq!(std::fs::read_dir(path.parent().unwrap()).unwrap().count(), 1, "nothing is left beside it");

        let precious = folder.path().join("thesis.html");
        std::fs::write(&precious, "<p>years of work").unwrap();
        let failure = write_page(&precious, &transcript).unwrap_err();
        assert_eq!(failure.exit, Exit::Usage);
        assert_eq!(std::fs::read_to_string(&precious).unwrap(), "<p>years of work");
        let failure = write_page(Path::new("/proc/nowhere/x.html"), &transcript).unwrap_err();
        assert!(failure.text.contains("/proc/nowhere/x.html") && failure.hint.is_some());
    }
}
