//! Traces, to an OTLP receiver over HTTP: one of each run, one span of each of its steps. A receiver that is not there costs a warning.

use std::time::Duration;

use opentelemetry::KeyValue;
use opentelemetry::trace::TracerProvider;
use opentelemetry_otlp::{Protocol, SpanExporter, WithExportConfig};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::trace::{SdkTracer, SdkTracerProvider};
use tracing::Subscriber;
use tracing_subscriber::Layer;
use tracing_subscriber::registry::LookupSpan;

/// The target of spans that are sent: nothing else is, so that no library's spans get there.
pub const TARGET: &str = "lifeboat::run";

/// How long a receiver is waited for, at the end of a process too.
const PATIENCE: Duration = Duration::from_secs(3);

/// Traces that are being sent.
pub struct Traces {
    provider: SdkTracerProvider,
    to: String,
}

/// Starts sending. None: it cannot be, which is told.
pub fn start(base: &str) -> Option<Traces> {
    let exporter = SpanExporter::builder()
        .with_http()
        .with_protocol(Protocol::HttpBinary)
        .with_endpoint(format!("{base}/v1/traces"))
        .with_timeout(PATIENCE)
        .build();
    let exporter = match exporter {
        Ok(exporter) => exporter,
        Err(error) => {
            tell(&format!("warning: traces cannot be sent to {base}: {error}"));
            return None;
        }
    };
    let resource = Resource::builder()
        .with_service_name("lifeboat")
        .with_attribute(KeyValue::new("service.version", env!("CARGO_PKG_VERSION")))
        .build();
    let provider = SdkTracerProvider::builder().with_batch_exporter(exporter).with_resource(resource).build();
    Some(Traces { provider, to: base.to_owned() })
}

impl Traces {
    /// What takes spans in.
    pub fn layer<S>(&self) -> impl Layer<S> + use<S>
    where
        S: Subscriber + for<'span> LookupSpan<'span>,
    {
        let tracer: SdkTracer = self.provider.tracer("lifeboat");
        tracing_opentelemetry::layer().with_tracer(tracer).with_location(false).with_threads(false).with_filter(
            tracing_subscriber::filter::filter_fn(|metadata| metadata.is_span() && metadata.target() == TARGET),
        )
    }

    /// Sends what is left. It waits for the receiver, but not for long.
    pub fn end(self) {
        if let Err(error) = self.provider.shutdown_with_timeout(PATIENCE) {
            tell(&format!("warning: traces did not arrive at {}: {error}", self.to));
        }
    }
}

/// To standard error; where that cannot be written, nothing is lost by it.
fn tell(line: &str) {
    use std::io::Write;
    let _ = writeln!(std::io::stderr().lock(), "{}", super::redact::redact(line));
}
