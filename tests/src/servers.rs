//! Real servers in the test network: dnsmasq, nginx, iperf3. They are killed when dropped and when
//! the thread of the test ends.

use std::fs;
use std::net::{SocketAddr, TcpStream};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;
use std::time::Duration;

use crate::addresses::*;
use crate::namespace::TestNamespace;

/// The running servers and the directory of their logs.
#[derive(Debug)]
pub struct Servers {
    children: Vec<Child>,
    dir: PathBuf,
}

impl Servers {
    /// Starts the name server and the web server.
    pub fn start(inet: &TestNamespace) -> Self {
        let dir = inet.dir().to_owned();
        let mut servers = Self { children: Vec::new(), dir };
        servers.start_dnsmasq(inet);
        servers.start_nginx(inet);
        wait_for_port(inet, (DNS_V4, 53).into());
        wait_for_port(inet, (APP_V4, 443).into());
        servers
    }

    /// Starts iperf3 as a server.
    pub fn start_iperf(&mut self, inet: &TestNamespace) {
        let mut command = inet.command("iperf3");
        // Bound to one address. Otherwise its UDP responses come from another address of this
        // machine.
        command.args(["-s", "-B", &APP_V4.to_string(), "-p", &IPERF.to_string()]);
        self.spawn(command, "iperf3.log");
        wait_for_port(inet, (APP_V4, IPERF).into());
    }

    pub fn web_log(&self) -> String {
        fs::read_to_string(self.dir.join("access.log")).unwrap_or_default()
    }

    pub fn dns_log(&self) -> String {
        fs::read_to_string(self.dir.join("dnsmasq.log")).unwrap_or_default()
    }

    fn start_dnsmasq(&mut self, inet: &TestNamespace) {
        let mut command = inet.command("dnsmasq");
        command.args(["--keep-in-foreground", "--conf-file=/dev/null", "--no-resolv", "--no-hosts", "--pid-file"]);
        command.args(["--user=root", "--bind-interfaces", "--log-queries", "--log-facility=-", "--local=/example/"]);
        command.arg(format!("--listen-address={DNS_V4},{DNS_V6},{ROUTER_V4}"));
        command.arg(format!("--host-record={APP},{APP_V4},{APP_V6}"));
        command.args((0..12).map(|n| format!("--txt-record={BIG},{n:02}{}", "x".repeat(248))));
        self.spawn(command, "dnsmasq.log");
    }

    fn start_nginx(&mut self, inet: &TestNamespace) {
        fs::write(self.dir.join("nginx.conf"), nginx_conf(&self.dir)).expect("write nginx.conf");
        fs::write(self.dir.join("big"), vec![b'x'; SOURCE_BYTES]).expect("write the big file");
        let (key, certificate) = certificate();
        fs::write(self.dir.join("key.pem"), key).expect("write the key");
        fs::write(self.dir.join("certificate.pem"), certificate).expect("write the certificate");
        let mut command = inet.command("nginx");
        command.arg("-p").arg(&self.dir).arg("-c").arg(self.dir.join("nginx.conf"));
        command.arg("-e").arg(self.dir.join("nginx.log"));
        self.spawn(command, "nginx.out");
    }

    fn spawn(&mut self, mut command: Command, log: &str) {
        let log = fs::File::create(self.dir.join(log)).expect("create a log file");
        let errors = log.try_clone().expect("duplicate a descriptor");
        command.stdout(Stdio::from(log)).stderr(Stdio::from(errors));
        // SAFETY: one system call between fork and exec.
        unsafe { command.pre_exec(die_with_parent) };
        let child = command.spawn().unwrap_or_else(|error| panic!("start {:?}: {error}", command.get_program()));
        self.children.push(child);
    }
}

impl Drop for Servers {
    fn drop(&mut self) {
        for child in &mut self.children {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

fn die_with_parent() -> std::io::Result<()> {
    nix::sys::prctl::set_pdeathsig(nix::sys::signal::Signal::SIGKILL).map_err(Into::into)
}

fn nginx_conf(dir: &Path) -> String {
    let dir = dir.display();
    format!(
        "daemon off; master_process off; user root; pid {dir}/nginx.pid; error_log {dir}/nginx.log;
        events {{ }}
        http {{
            access_log {dir}/access.log;
            client_body_temp_path {dir}/body; proxy_temp_path {dir}/proxy; fastcgi_temp_path {dir}/fastcgi;
            uwsgi_temp_path {dir}/uwsgi; scgi_temp_path {dir}/scgi;
            server {{
                listen {APP_V4}:80; listen [{APP_V6}]:80;
                listen {APP_V4}:443 ssl http2; listen [{APP_V6}]:443 ssl http2;
                server_name {APP};
                ssl_certificate {dir}/certificate.pem; ssl_certificate_key {dir}/key.pem;
                location / {{ default_type text/plain; return 200 \"hello\\n\"; }}
                location = /client {{ default_type text/plain; return 200 \"$remote_addr\\n\"; }}
                location = /big {{ root {dir}; }}
            }}
        }}
        "
    )
}

/// A self-signed certificate for the application server, generated once per process.
fn certificate() -> &'static (Vec<u8>, Vec<u8>) {
    static MADE: OnceLock<(Vec<u8>, Vec<u8>)> = OnceLock::new();
    MADE.get_or_init(|| {
        let dir = tempfile::tempdir().expect("make a temporary directory");
        let (key, certificate) = (dir.path().join("key"), dir.path().join("certificate"));
        let mut openssl = Command::new("openssl");
        openssl.args([
            "req",
            "-x509",
            "-newkey",
            "ec",
            "-pkeyopt",
            "ec_paramgen_curve:prime256v1",
            "-nodes",
            "-days",
            "2",
        ]);
        openssl.args(["-subj", &format!("/CN={APP}"), "-addext", &format!("subjectAltName=DNS:{APP}")]);
        openssl.arg("-keyout").arg(&key).arg("-out").arg(&certificate);
        let output = openssl.output().expect("start openssl");
        assert!(output.status.success(), "openssl: {}", String::from_utf8_lossy(&output.stderr));
        (fs::read(key).expect("read the key"), fs::read(certificate).expect("read the certificate"))
    })
}

fn wait_for_port(inet: &TestNamespace, address: SocketAddr) {
    let answered = inet.inside(move || {
        crate::eventually(|| {
            TcpStream::connect_timeout(&address, Duration::from_millis(200))
                .map(drop)
                .map_err(|error| error.to_string())
        })
    });
    answered
        .join()
        .expect("the thread ends")
        .unwrap_or_else(|error| panic!("no server responds at {address}: {error}"));
}
