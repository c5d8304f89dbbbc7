//! `--otlp`: connections and metrics, decoded by the official messages for Python.

use std::collections::BTreeMap;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Child, Command};

use netwatch_tests::addresses::ROUTER_V4;
use netwatch_tests::{TestInternet, internet, skip};
use serde_json::Value;

/// Prints the requests that it accepts, as JSON: one per line.
const RECEIVER: &str = r"
import http.server, json, sys
from google.protobuf.json_format import MessageToDict
from opentelemetry.proto.collector.logs.v1 import logs_service_pb2 as logs
from opentelemetry.proto.collector.metrics.v1 import metrics_service_pb2 as metrics
KINDS = {'/v1/logs': logs.ExportLogsServiceRequest, '/v1/metrics': metrics.ExportMetricsServiceRequest}
class Receiver(http.server.BaseHTTPRequestHandler):
    protocol_version = 'HTTP/1.1'
    def do_POST(self):
        assert self.headers['Content-Type'] == 'application/x-protobuf'
        request = KINDS[self.path]()
        request.ParseFromString(self.rfile.read(int(self.headers['Content-Length'])))
        print(json.dumps(MessageToDict(request)), flush=True)
        self.send_response(200)
        self.send_header('Content-Length', '0')
        self.end_headers()
    def log_message(self, *words): pass
server = http.server.ThreadingHTTPServer((sys.argv[1], 4318), Receiver)
print('listening', flush=True)
server.serve_forever()
";

/// A receiver in the namespace of the servers.
struct OtlpReceiver {
    child: Child,
    printed: PathBuf,
}

impl OtlpReceiver {
    /// `None`, and the reason is printed, without the packages of Python.
    fn start(net: &TestInternet) -> Option<Self> {
        let python = Path::new(env!("CARGO_TARGET_TMPDIR")).parent()?.join("venv/bin/python3");
        let done = Command::new(&python).args(["-c", "import opentelemetry.proto.collector.logs.v1"]).output();
        if !done.is_ok_and(|done| done.status.success()) {
            skip("there is no Python with opentelemetry-proto (`cargo xtask setup` makes it, with a network)");
            return None;
        }
        let printed = net.inet.dir().join("received");
        let mut command = net.inet.command(python.to_str().expect("a plain name"));
        command.args(["-c", RECEIVER, &ROUTER_V4.to_string()]);
        let child = command.stdout(File::create(&printed).expect("a file")).spawn().expect("start the receiver");
        net.inet.wait_for("grep -q listening received");
        Some(Self { child, printed })
    }

    /// The attributes of all records, and the last values of all metrics.
    fn received(&self) -> (Vec<BTreeMap<String, String>>, BTreeMap<String, u64>) {
        let printed = std::fs::read_to_string(&self.printed).expect("the requests");
        let (mut records, mut values) = (Vec::new(), BTreeMap::new());
        for request in printed.lines().skip(1).map(|line| serde_json::from_str::<Value>(line).expect("JSON")) {
            for record in list(&request, "/resourceLogs/0/scopeLogs/0/logRecords") {
                assert_eq!(record["eventName"], "netwatch.connection", "{record}");
                records.push(attributes(record));
            }
            for metric in list(&request, "/resourceMetrics/0/scopeMetrics/0/metrics") {
                for point in list(metric, "/sum/dataPoints") {
                    let labels: Vec<String> = attributes(point).into_values().collect();
                    let name = format!("{} {}", metric["name"].as_str().expect("a name"), labels.join(" "));
                    let value = point["asInt"].as_str().unwrap_or("0");
                    values.insert(name, value.parse().expect("a number"));
                }
            }
        }
        (records, values)
    }
}

impl Drop for OtlpReceiver {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn list<'a>(value: &'a Value, pointer: &str) -> &'a [Value] {
    value.pointer(pointer).and_then(Value::as_array).map_or(&[], Vec::as_slice)
}

fn attributes(value: &Value) -> BTreeMap<String, String> {
    let text = |value: &Value| {
        let value = value.as_object().and_then(|value| value.values().next()).expect("a value");
        value.as_str().expect("a text").to_owned()
    };
    let attribute = |one: &Value| (one["key"].as_str().expect("a key").to_owned(), text(&one["value"]));
    list(value, "/attributes").iter().map(attribute).collect()
}

#[test]
fn a_receiver_has_every_connection_and_the_totals() {
    let net = internet!();
    let Some(receiver) = OtlpReceiver::start(&net) else { return };
    let url = format!("http://{ROUTER_V4}");
    let script = "curl -s -4 -o /dev/null http://app.example/; curl -s -6 -o /dev/null http://app.example/";
    let run = net.host.run(&["--otlp", &url], &["sh", "-c", script]);
    let report = run.assert_ok().report();
    let (records, values) = receiver.received();
    let flows = report["flows"].as_array().expect("flows");
    assert_eq!(records.len(), flows.len(), "{records:#?}\n{run}");
    let packets = |key: &str| records.iter().map(|record| record[key].parse::<u64>().expect("a number")).sum::<u64>();
    for (way, direction) in [("egress", "transmit"), ("ingress", "receive")] {
        let expected = flows.iter().map(|flow| flow[way]["packets"].as_u64().expect("packets")).sum::<u64>();
        assert_eq!(packets(&format!("netwatch.{way}.packets")), expected, "{way}: {run}");
        let total = values[&format!("netwatch.network.packets {direction}")];
        let reported = report["totals"][way]["packets"].as_u64().expect("packets");
        assert!(total > 0 && total <= reported, "{way}: {total} of {reported}");
    }
    let web: Vec<_> = records.iter().filter(|record| record["server.port"] == "80").collect();
    assert_eq!(web.len(), 2, "{records:#?}");
    for record in web {
        assert_eq!(record["server.address"], "app.example");
        assert_eq!((&*record["process.executable.name"], &*record["network.protocol.name"]), ("curl", "http"));
    }
}

#[test]
fn without_a_receiver_the_run_says_how_many_connections_were_dropped() {
    let net = internet!();
    let run =
        net.host.run(&["--otlp", "http://127.0.0.1:9"], &["curl", "-s", "-o", "/dev/null", "http://app.example/"]);
    run.assert_ok();
    assert!(run.stderr.contains("connections for http://127.0.0.1:9 were dropped"), "{run}");
    assert!(run.stderr.contains("receiver not reached before the end of the run"), "{run}");
    let unknown = net.host.run(&["--otlp", "http://no-such-host.invalid"], &["true"]);
    unknown.assert_error(125, &["export connections to http://no-such-host.invalid:4318"]);
}
