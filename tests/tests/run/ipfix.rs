//! `--ipfix`: flow records, read back by the collectors of others.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::path::PathBuf;
use std::process::Child;

use netwatch_tests::addresses::ROUTER_V4;
use netwatch_tests::{FinishedRun, TestNamespace, internet, needs, wait_until};
use serde_json::Value;

/// Ends of a flow, and its packets in both directions.
type Exported = BTreeMap<(String, String, u64, u64), (u64, u64)>;

/// A command with flows over IPv4 and IPv6, of TCP and UDP.
const COMMAND: [&str; 3] =
    ["sh", "-c", "curl -s -4 -o /dev/null http://app.example/; curl -s -6 -o /dev/null http://app.example/"];

/// The flows of the report that have ports.
fn reported(run: &FinishedRun) -> Exported {
    let flows = run.assert_ok().report()["flows"].as_array().expect("flows");
    let with_ports = flows.iter().filter(|flow| flow["local_port"].as_u64() > Some(0));
    let flow = |flow: &Value| {
        assert_ne!(flow["direction"], "in", "the command opened every flow: {flow}");
        let text = |key: &str| flow[key].as_str().expect("an address").to_owned();
        let number = |key: &str| flow[key].as_u64().expect("a port");
        let packets = |way: &str| flow[way]["packets"].as_u64().unwrap_or_default();
        let ends = (text("local"), text("remote"), number("local_port"), number("remote_port"));
        (ends, (packets("egress"), packets("ingress")))
    };
    let all: Exported = with_ports.map(flow).collect();
    assert!(all.len() >= 4, "connections and lookups: {run}");
    all
}

/// A collector in the namespace of the servers; ended with SIGTERM, so that it writes what it has.
struct Collector {
    child: Child,
    log: PathBuf,
}

impl Collector {
    /// Starts a program, and waits until it listens on the port.
    fn start(inet: &TestNamespace, transport: &str, words: &[&str]) -> Self {
        let log = inet.dir().join(format!("{}.log", words[0]));
        let out = File::create(&log).expect("a log");
        let mut command = inet.command(words[0]);
        command.args(&words[1..]).stdout(out.try_clone().expect("a log")).stderr(out);
        let child = command.spawn().expect("start the collector");
        inet.wait_for(&format!("ss -Hln --{transport} 'sport = 4739' | grep -q ."));
        Self { child, log }
    }

    /// Ends it, and returns what it printed.
    fn end(mut self) -> String {
        // SAFETY: the call takes no pointer. The child was not waited for, so the pid is its own.
        assert_eq!(unsafe { libc::kill(self.child.id() as i32, libc::SIGTERM) }, 0);
        let has_ended = || self.child.try_wait().expect("wait for the collector").is_some();
        wait_until(has_ended, || "the end of the collector".to_owned());
        self.printed()
    }

    /// What it has printed so far.
    fn printed(&self) -> String {
        fs::read_to_string(&self.log).expect("the log")
    }
}

impl Drop for Collector {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn nfcapd_has_every_flow_with_both_directions() {
    needs!("nfcapd", "nfdump");
    let net = internet!();
    let dir = net.inet.dir().join("nfcapd");
    fs::create_dir(&dir).expect("a directory");
    let folder = dir.to_str().expect("a plain name");
    let words = ["nfcapd", "-b", &ROUTER_V4.to_string(), "-p", "4739", "-w", folder, "-t", "3600"];
    let collector = Collector::start(&net.inet, "udp", &words);
    let run = net.host.run(&["--ipfix", &ROUTER_V4.to_string()], &COMMAND);
    let expected = reported(&run);
    let log = collector.end();
    assert!(log.contains("Sequence Errors: 0, Bad Packets: 0"), "{log}");
    let log = log.replace("Sequence Errors: 0", "").to_lowercase();
    let complaints = ["error", "fail", "unknown", "skip", "invalid", "short", "corrupt"];
    let wrong: Vec<&str> = log.lines().filter(|line| complaints.iter().any(|word| line.contains(word))).collect();
    assert!(wrong.is_empty(), "{wrong:?}\n{log}");
    let json = net.inet.sh(&format!("nfdump -q -R {folder} -o json"));
    // With -q, the records come without the brackets of the list.
    let records = serde_json::from_str::<Vec<Value>>(&format!("[{json}]"));
    let records = records.unwrap_or_else(|error| panic!("{error}: {json}"));
    let with_ports = records.iter().filter(|record| record["src_port"].as_u64() > Some(0));
    let flow = |record: &Value| {
        let text = |keys: [&str; 2]| keys.iter().find_map(|key| record[key].as_str()).expect("an address").to_owned();
        let number = |key: &str| record[key].as_u64().unwrap_or_default();
        let ends = (
            text(["src4_addr", "src6_addr"]),
            text(["dst4_addr", "dst6_addr"]),
            number("src_port"),
            number("dst_port"),
        );
        (ends, (number("in_packets"), number("out_packets")))
    };
    assert_eq!(with_ports.map(flow).collect::<Exported>(), expected, "{json}");
}

#[test]
fn tshark_reads_the_file_without_a_complaint() {
    needs!("tshark");
    let net = internet!();
    let file = net.host.dir().join("flows.ipfix");
    let file = file.to_str().expect("a plain name");
    let run = net.host.run(&["--ipfix", &format!("file:{file}")], &COMMAND);
    let expected = reported(&run);
    let complaints = net.host.sh(&format!("tshark -r {file} -Y '_ws.malformed || _ws.expert' 2>/dev/null"));
    assert_eq!(complaints, "", "malformed, or remarkable in the opinion of tshark");
    let fields = ["cflow.srcaddr", "cflow.srcaddrv6", "cflow.srcport", "cflow.dstport", "cflow.packets"];
    let fields = fields.map(|field| format!("-e {field}")).join(" ");
    let text = net.host.sh(&format!("tshark -r {file} -T fields -E occurrence=a {fields} 2>/dev/null"));
    for (local, _, local_port, _) in expected.keys() {
        assert!(text.contains(local) && text.contains(&local_port.to_string()), "{local}:{local_port} in {text}");
    }
    let details = net.host.sh(&format!("tshark -r {file} -V 2>/dev/null"));
    assert!(!details.contains("no template found"), "{details}");
    // A file of the user who called sudo exists once only.
    let again = net.host.run(&["--ipfix", &format!("file:{file}")], &["true"]);
    again.assert_error(125, &["export flows to file:", "EEXIST"]);
}

#[test]
fn nfacctd_has_every_flow() {
    needs!("nfacctd");
    let net = internet!();
    let (config, out) = (net.inet.dir().join("nfacctd.conf"), net.inet.dir().join("nfacctd.json"));
    let text = format!(
        "daemonize: false\nnfacctd_ip: {ROUTER_V4}\nnfacctd_port: 4739\nplugins: print[p]\n\
         print_output[p]: json\nprint_output_file[p]: {}\nprint_output_file_append[p]: true\nprint_refresh_time[p]: 1\n\
         aggregate[p]: src_host,dst_host,src_port,dst_port,proto\n",
        out.display()
    );
    fs::write(&config, text).expect("write the configuration");
    let words = ["nfacctd", "-f", config.to_str().expect("a plain name")];
    let collector = Collector::start(&net.inet, "udp", &words);
    let run = net.host.run(&["--ipfix", &format!("udp:{ROUTER_V4}:4739")], &COMMAND);
    let expected: Vec<_> = reported(&run).into_iter().map(|(ends, (sent, _))| (ends, sent)).collect();
    let read = || {
        let text = fs::read_to_string(&out).unwrap_or_default();
        let lines = text.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
        let with_ports = lines.filter(|line| line["port_src"].as_u64() > Some(0));
        let flow = |line: Value| {
            let word = |key: &str| line[key].as_str().unwrap_or_default().to_owned();
            let number = |key: &str| line[key].as_u64().unwrap_or_default();
            ((word("ip_src"), word("ip_dst"), number("port_src"), number("port_dst")), number("packets"))
        };
        with_ports.map(flow).collect::<BTreeMap<_, _>>()
    };
    let expected: BTreeMap<_, _> = expected.into_iter().collect();
    wait_until(|| read() == expected, || format!("{expected:?}: {:?}\n{}", read(), collector.printed()));
    let log = collector.printed();
    assert!(!log.contains("ERROR") && !log.contains("WARN"), "{log}");
}

/// A collector that accepts and never reads, one that does not exist, and one that refuses.
#[test]
fn stuck_and_dead_collectors_do_not_delay_the_run() {
    let net = internet!();
    let stuck = net.inet.inside(|| {
        let listener = std::net::TcpListener::bind((ROUTER_V4, 4739)).expect("a listener");
        std::thread::spawn(move || listener.incoming().flatten().collect::<Vec<_>>())
    });
    drop(stuck.join().expect("listening"));
    let targets = format!("tcp:{ROUTER_V4}:4739,tcp:203.0.113.99,tcp:{ROUTER_V4}:1,udp:{ROUTER_V4}:1");
    let run = net.host.run(&["--ipfix", &targets], &COMMAND);
    reported(&run);
    assert!(run.stderr.contains(&format!("flow records for tcp:{ROUTER_V4}:1 were dropped")), "{run}");
    assert!(!run.stderr.contains(&format!("flow records for tcp:{ROUTER_V4}:4739 were dropped")), "{run}");
    // 60 seconds is what a consumer may take in the worst case.
    assert!(run.took.as_secs() < 40, "{run}");
}
