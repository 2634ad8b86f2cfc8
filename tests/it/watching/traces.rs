//! Traces: one of each run, one span of each of its steps, as a receiver decodes them.

use std::collections::BTreeMap;

use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::any_value::Value;
use opentelemetry_proto::tonic::trace::v1::Span;
use prost::Message;

use crate::support::ears::Ears;
use crate::support::home::{Home, POLICY, ran};
use crate::support::server::Server;

fn spans(ears: &Ears) -> Vec<Span> {
    let of = |body: &[u8]| ExportTraceServiceRequest::decode(body).unwrap();
    ears.heard()
        .iter()
        .filter(|heard| heard.path == "/v1/traces")
        .flat_map(|heard| of(&heard.body).resource_spans)
        .flat_map(|resource| resource.scope_spans)
        .flat_map(|scope| scope.spans)
        .collect()
}

fn attributes(span: &Span) -> BTreeMap<String, String> {
    let text = |value: &Value| match value {
        Value::StringValue(text) => text.clone(),
        other => format!("{other:?}"),
    };
    let pairs = span.attributes.iter().map(|pair| {
        let value = pair.value.as_ref().and_then(|value| value.value.as_ref()).map(text).unwrap_or_default();
        (pair.key.clone(), value)
    });
    pairs.collect()
}

#[test]
fn a_run_is_a_trace_and_each_step_a_span() {
    let ears = Ears::open();
    let server = Server::start();
    server.sql("postgres", "create database orders");
    server.sql("orders", "create table t as select n from generate_series(1, 100) n");
    let home = Home::new(&server, "orders");
    home.edit_config(|text| format!("{text}\n[telemetry]\notlp = \"{}\"\n", ears.url()));
    home.run(&["backup", POLICY, "--job", "logical"]).expect(0);
    let backup = spans(&ears);
    let names = |spans: &[Span]| spans.iter().map(|span| span.name.clone()).collect::<Vec<_>>();
    assert_eq!(names(&backup), ["open the source and the store", "take", "commit", "run"]);
    home.run(&["drill", POLICY, "--drill", "restore-logical"]);
    let drill = spans(&ears)[backup.len()..].to_vec();
    for wanted in ["choose a backup", "provision", "restore", "await readiness", "content", "destroy", "run"] {
        assert!(names(&drill).iter().any(|name| name == wanted), "{wanted}: {:?}", names(&drill));
    }
    home.run(&["verify", POLICY, "--budget", "100%"]);
    let walk = spans(&ears)[backup.len() + drill.len()..].to_vec();
    assert_eq!(names(&walk), ["look what there is", "read", "run"]);
    for (run, work) in [(&backup, "backup logical"), (&drill, "drill restore-logical"), (&walk, "verify with a budget")]
    {
        let root = run.iter().find(|span| span.name == "run").unwrap();
        assert!(root.parent_span_id.is_empty());
        let told = attributes(root);
        assert_eq!((told["policy"].as_str(), told["work"].as_str()), (POLICY, work));
        assert_eq!(told["run"].len(), 36);
        for span in run.iter().filter(|span| span.name != "run") {
            assert_eq!((&span.trace_id, &span.parent_span_id), (&root.trace_id, &root.span_id), "{}", span.name);
            assert!(
                span.start_time_unix_nano >= root.start_time_unix_nano
                    && span.end_time_unix_nano <= root.end_time_unix_nano
            );
        }
    }
    assert_ne!(backup[0].trace_id, drill[0].trace_id);

    // A receiver that is not there costs a warning, and changes nothing.
    let nowhere = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    home.edit_config(|text| text.replace(&ears.url(), &format!("http://{nowhere}")));
    let said = ran(&mut home.command(&["backup", POLICY, "--job", "logical"])).expect(0);
    assert!(said.stderr.contains("traces"), "{}", said.stderr);
}
