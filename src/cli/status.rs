//! `lifeboat status`.

use std::num::NonZeroUsize;

use futures_util::{StreamExt, TryStreamExt};
use jiff::Timestamp;

use crate::catalog::Recorded;
use crate::domain::check::Broke;
use crate::domain::policy::Policy;
use crate::domain::transcript::Verdict;
use crate::domain::units::Span;
use crate::engine::House;
use crate::engine::standing::{self, Question, Stood};
use crate::load::{self, Page};
use crate::render::status::{self, Paging, Stand};

use super::{Cli, Exit, Failure, Output, output};

/// Questions that are asked at once: a catalog on a server answers two as quickly as one.
const AT_ONCE: usize = 2;

/// Arguments.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Only this policy, in full.
    #[arg(value_name = "POLICY")]
    policy: Option<String>,
    /// How far exposure is looked back on: its worst, and for how much of the time it was within the RPO.
    #[arg(long, value_name = "TIME", default_value = "30d")]
    window: Span,
    /// Only this page of the policies, by the names of their files; only these files are read, and the exit code is of them alone. The first is 1.
    #[arg(long, value_name = "N", conflicts_with = "policy")]
    page: Option<NonZeroUsize>,
    /// Policies on a page.
    #[arg(long, value_name = "COUNT", default_value = "50", requires = "page")]
    per_page: NonZeroUsize,
}

impl Args {
    /// The page that is asked for, of so many policies.
    fn paging(&self, policies: usize) -> Option<Result<Paging, Broke>> {
        let page = self.page?;
        let paging = Paging { page: page.get(), per_page: self.per_page.get(), policies };
        let beyond = || {
            let message = format!("there is no page {page}: {policies} policies are on {} pages", paging.pages());
            Broke::hinted(message, format!("name one from 1 to {}", paging.pages()))
        };
        Some(if paging.page <= paging.pages() { Ok(paging) } else { Err(beyond()) })
    }
}

/// Runs the verb.
pub async fn run(cli: &Cli, args: &Args) -> Result<Exit, Failure> {
    let (house, paging) = match args.page {
        None => (cli.house()?, None),
        Some(page) => {
            let per_page = args.per_page.get();
            let from = (page.get() - 1).saturating_mul(per_page);
            let Page { loaded, of } = cli.load(|file| load::load_page(file, from, per_page))?;
            let paging = args.paging(of).transpose().map_err(Failure::usage)?;
            (House::build(loaded)?, paging)
        }
    };
    let (text, exit) = show(&house, args, paging, cli.output, crate::clock::now()).await?;
    output::print(&text);
    Ok(exit)
}

async fn show(
    house: &House,
    args: &Args,
    paging: Option<Paging>,
    form: Output,
    now: Timestamp,
) -> Result<(String, Exit), Failure> {
    let policies: Vec<&Policy> = match &args.policy {
        Some(name) => vec![house.policy(name).map_err(Failure::usage)?],
        None => house.policies.iter().collect(),
    };
    let question = Question { back: args.window, whole: true };
    let stood = policies.chunks(standing::AT_ONCE).map(|some| standing::of(house, some, question, now));
    let stands: Vec<Vec<Stood<'_>>> = futures_util::stream::iter(stood).buffered(AT_ONCE).try_collect().await?;
    let stands: Vec<Stand<'_>> = stands.into_iter().flatten().map(stand).collect();
    let (width, color) = (output::width(), output::color_on_stdout());
    let text = match (form, stands.as_slice()) {
        (Output::Json, _) => format!("{:#}", status::document(&stands, paging, now)),
        (Output::Table, [only]) if args.policy.is_some() => status::full(only, now, width, color),
        (Output::Table, all) => status::lines(all, paging, now, width, color),
    };
    Ok((text, exit(status::overall(&stands))))
}

/// For page and document.
fn stand(stood: Stood<'_>) -> Stand<'_> {
    let Stood { policy, standing, recorded, read_back, .. } = stood;
    let Recorded { artifacts, drills, runs, tests, copies, .. } = recorded;
    Stand { policy, standing, artifacts, drills, runs, tests, copies, read_back }
}

/// The exit code of a verdict.
pub(super) fn exit(verdict: Verdict) -> Exit {
    match verdict {
        Verdict::Proven => Exit::Ok,
        Verdict::Failed => Exit::Finding,
        Verdict::Unproven => Exit::Unproven,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::report::tests::house;
    use crate::domain::policy::Method;
    use crate::domain::run::Event;
    use crate::domain::sample::{self, at};

    #[tokio::test]
    async fn exit_codes_follow_the_worst_policy() {
        let (house, _folder) = house().await;
        let fifty = NonZeroUsize::new(50).unwrap();
        let of = |policy: Option<&str>| Args {
            policy: policy.map(str::to_owned),
            window: Span::from_secs(86_400),
            page: None,
            per_page: fifty,
        };
        let all = of(None);
        let now = at("2026-11-20T15:00:00Z");
        let (text, exit) = show(&house, &all, None, Output::Table, now).await.unwrap();
        assert_eq!(exit, Exit::Unproven);
        assert!(text.contains("lifeboat backup orders"), "{text}");

        let policy = &house.policies[0].name;
        house.catalog.adopt(now, vec![sample::artifact(Method::Physical, "2026-11-20T03:00:00Z", 1)]).await.unwrap();
        for name in ["restore-latest", "restore-logical"] {
            let mut transcript = sample::judged(sample::physical());
            transcript.drill.name = name.parse().unwrap();
            let event = Event::Drilled(Box::new(transcript));
            house.catalog.append(now, policy, sample::run(1), event).await.unwrap();
        }
        let (text, exit) = show(&house, &all, None, Output::Table, now).await.unwrap();
        assert_eq!(exit, Exit::Ok, "{text}");
        assert!(text.contains("9 hours ago"), "{text}");

        let event = Event::Drilled(Box::new(sample::judged(sample::logical_with_findings())));
        house.catalog.append(now, policy, sample::run(2), event).await.unwrap();
        let one = of(Some("orders"));
        let (text, exit) = show(&house, &one, None, Output::Json, now).await.unwrap();
        assert_eq!(exit, Exit::Finding);
        let json: serde_json::Value = serde_json::from_str(&text).unwrap();
        assert_eq!(json["schema"], "lifeboat.status/1");
        assert_eq!(json["policies"][0]["verdict"], "failed");
        let (text, _) = show(&house, &one, None, Output::Table, now).await.unwrap();
        assert!(text.contains("Backup jobs") && text.contains("worst"), "{text}");

        let wrong = of(Some("order"));
        let failure = show(&house, &wrong, None, Output::Table, now).await.unwrap_err();
        assert_eq!(failure.exit, Exit::Usage);
        assert!(failure.hint.unwrap().contains("orders"));
    }
}
