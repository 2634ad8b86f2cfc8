//! Traces, to an OTLP receiver over HTTP: one of each run, one span of each of its steps. A receiver that is not there costs a warning.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use opentelemetry::KeyValue;
use opentelemetry::trace::TracerProvider;
use opentelemetry_otlp::{Protocol, SpanExporter, WithExportConfig};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::error::OTelSdkResult;
use opentelemetry_sdk::trace::{SdkTracer, SdkTracerProvider, SpanData};
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
    let exporter = Telling { exporter, to: base.to_owned(), failing: Arc::default() };
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

/// Sends, and tells the first time that it cannot, until it can again.
#[derive(Debug)]
struct Telling {
    exporter: SpanExporter,
    to: String,
    failing: Arc<AtomicBool>,
}

impl opentelemetry_sdk::trace::SpanExporter for Telling {
    async fn export(&self, batch: Vec<SpanData>) -> OTelSdkResult {
        let sent = self.exporter.export(batch).await;
        if let Err(error) = &sent
            && !self.failing.load(Ordering::Relaxed)
        {
            tell(&format!("warning: traces do not arrive at {}: {error}", self.to));
        }
        self.failing.store(sent.is_err(), Ordering::Relaxed);
        sent
    }

    fn shutdown_with_timeout(&self, timeout: Duration) -> OTelSdkResult {
        self.exporter.shutdown_with_timeout(timeout)
    }

    fn force_flush(&self) -> OTelSdkResult {
        self.exporter.force_flush()
    }

    fn set_resource(&mut self, resource: &Resource) {
        self.exporter.set_resource(resource);
    }
}

/// To standard error; where that cannot be written, nothing is lost by it.
fn tell(line: &str) {
    use std::io::Write;
    let _ = writeln!(std::io::stderr().lock(), "{}", super::redact::redact(line));
}
