//! Metrics as text: OpenMetrics 1.0, and the older form of Prometheus that `promtool` and node_exporter read.

use std::fmt::{self, Write};
use std::ops::Range;
use std::sync::Arc;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeLabelSet, EncodeMetric, LabelSetEncoder};
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::registry::{Registry, Unit as OpenUnit};

use crate::judge::metrics::{FAMILIES, Family, Kind, Sample, Unit};

/// The form of a text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// OpenMetrics 1.0.0.
    OpenMetrics,
    /// Prometheus' text format 0.0.4.
    Classic,
}

impl Form {
    /// Of what a scraper says it accepts.
    pub fn accepted(accept: &str) -> Form {
        if accept.contains("application/openmetrics-text") { Form::OpenMetrics } else { Form::Classic }
    }

    /// Its media type.
    pub fn media_type(self) -> &'static str {
        match self {
            Form::OpenMetrics => "application/openmetrics-text; version=1.0.0; charset=utf-8",
            Form::Classic => "text/plain; version=0.0.4; charset=utf-8",
        }
    }
}

/// Families whose samples are written at once.
const AT_ONCE: usize = 6;
/// The last line of OpenMetrics.
const END: &str = "# EOF\n";

/// The parts in which all of it is written, one after the other.
pub fn parts() -> impl Iterator<Item = Range<usize>> + Send {
    (0..FAMILIES.len()).step_by(AT_ONCE).map(|from| from..(from + AT_ONCE).min(FAMILIES.len()))
}

/// Writes samples of some families, of which there is a row for each; the last part ends the text.
pub fn write(families: Range<usize>, samples: Vec<Vec<Sample>>, form: Form) -> Result<String, fmt::Error> {
    let mut registry = Registry::default();
    let last = families.end == FAMILIES.len();
    registry.register_collector(Box::new(Sheet(families, Arc::new(samples))));
    let mut text = String::new();
    prometheus_client::encoding::text::encode(&mut text, &registry)?;
    if !last && text.ends_with(END) {
        text.truncate(text.len() - END.len());
    }
    match form {
        Form::OpenMetrics => Ok(text),
        Form::Classic => classic(&text),
    }
}

#[derive(Debug)]
struct Sheet(Range<usize>, Arc<Vec<Vec<Sample>>>);

impl Collector for Sheet {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        for (family, row) in FAMILIES[self.0.clone()].iter().zip(self.1.iter()).filter(|(_, row)| !row.is_empty()) {
            // The library puts unit and `_total` behind the name.
            let (ending, unit) = match family.unit {
                Unit::Seconds => ("_seconds", Some(OpenUnit::Seconds)),
                Unit::Bytes => ("_bytes", Some(OpenUnit::Bytes)),
                Unit::None => ("_total", None),
            };
            let name = family.name.strip_suffix(ending).unwrap_or(family.name);
            match family.kind {
                Kind::Gauge => {
                    let gauge = ConstGauge::new(0.0);
                    let mut of = encoder.encode_descriptor(name, family.help, unit.as_ref(), gauge.metric_type())?;
                    if let (true, [only]) = (family.labels.is_empty(), row.as_slice()) {
                        // No braces around nothing.
                        ConstGauge::new(only.value).encode(of)?;
                        continue;
                    }
                    for sample in row {
                        ConstGauge::new(sample.value).encode(of.encode_family(&Labels(family, sample))?)?;
                    }
                }
                Kind::Counter => {
                    let counter = ConstCounter::new(0.0);
                    let mut of = encoder.encode_descriptor(name, family.help, unit.as_ref(), counter.metric_type())?;
                    if let (true, [only]) = (family.labels.is_empty(), row.as_slice()) {
                        ConstCounter::new(only.value).encode(of)?;
                        continue;
                    }
                    for sample in row {
                        ConstCounter::new(sample.value).encode(of.encode_family(&Labels(family, sample))?)?;
                    }
                }
            }
        }
        Ok(())
    }
}

#[derive(Debug)]
struct Labels<'a>(&'a Family, &'a Sample);

impl EncodeLabelSet for Labels<'_> {
    fn encode(&self, encoder: &mut LabelSetEncoder<'_>) -> Result<(), fmt::Error> {
        for pair in self.0.labels.iter().copied().zip(self.1.labels.iter().map(String::as_str)) {
            prometheus_client::encoding::EncodeLabel::encode(&pair, encoder.encode_label())?;
        }
        Ok(())
    }
}

/// The older form: it knows no units and no end, and a counter is described by its whole name.
fn classic(text: &str) -> Result<String, fmt::Error> {
    let counters: Vec<&str> =
        FAMILIES.iter().filter(|family| family.kind == Kind::Counter).map(|family| family.name).collect();
    let mut out = String::with_capacity(text.len());
    for line in text.lines() {
        let described = ["# HELP ", "# TYPE "].into_iter().find_map(|word| Some((word, line.strip_prefix(word)?)));
        match described {
            Some((word, rest)) => {
                let (name, rest) = rest.split_once(' ').unwrap_or((rest, ""));
                let whole = counters.iter().find(|whole| whole.strip_suffix("_total") == Some(name)).copied();
                writeln!(out, "{word}{} {rest}", whole.unwrap_or(name))?;
            }
            None if line.starts_with('#') => {}
            None => writeln!(out, "{line}")?,
        }
    }
    Ok(out)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::judge::metrics::{World, samples_of};

    fn all(world: &World, version: &str, now: jiff::Timestamp, form: Form) -> String {
        let one = |part: Range<usize>| write(part.clone(), samples_of(part, world, version, now), form).unwrap();
        parts().map(one).collect()
    }

    #[test]
    fn both_forms_say_the_same() {
        let now = "2026-01-01T00:00:00Z".parse().unwrap();
        let ended = [("finished".to_owned(), 3)].into();
        let world = World { ended: Some(ended), catalog_up: true, gathered_at: Some(now), ..World::default() };
        let open = all(&world, "1.2\"3", now, Form::OpenMetrics);
        let classic = all(&world, "1.2\"3", now, Form::Classic);
        assert_eq!((open.matches(END).count(), parts().last().map(|part| part.end)), (1, Some(FAMILIES.len())));
        assert!(open.ends_with("# EOF\n") && open.contains("# TYPE lifeboat_runs_ended counter"), "{open}");
        assert!(open.contains("# UNIT lifeboat_gathered_timestamp_seconds seconds"), "{open}");
        assert!(
            classic.contains("# TYPE lifeboat_runs_ended_total counter") && !classic.contains("# UNIT"),
            "{classic}"
        );
        for line in [
            "lifeboat_runs_ended_total{how=\"finished\"} 3",
            "lifeboat_catalog_up 1",
            "lifeboat_build_info{version=\"1.2\\\"3\"} 1",
            "lifeboat_gathered_timestamp_seconds 1767225600",
        ] {
            for text in [&open, &classic] {
                assert!(text.lines().any(|one| one.trim_end_matches(".0") == line), "{line} is not in\n{text}");
            }
        }
    }
}
