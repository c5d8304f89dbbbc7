//! The scripts of the GitHub Action and of the GitLab template, run as CI runs them: from a release
//! in a folder to the verdict.

use std::fs;
use std::os::unix::fs::{MetadataExt, chown};
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use netwatch_tests::addresses::{APP, REFUSED};
use netwatch_tests::{TestInternet, USER, USER_ID, binary, internet, needs};

const ARCHIVE: &str = "netwatch-0.0.0-x86_64-unknown-linux-musl";
const POLICY: &str = "[[allow]]\nname = \"app.example\"\nport = 80\n";

fn repository() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("a repository")
}

/// A folder with a release: the program under test in a tarball, and its checksum. Returns its
/// address.
fn release(net: &TestInternet) -> String {
    let folder = net.host.dir().join("releases/download/v0.0.0");
    fs::create_dir_all(folder.join(ARCHIVE)).expect("make a folder");
    fs::copy(binary(), folder.join(ARCHIVE).join("netwatch")).expect("copy netwatch");
    net.host.sh(&format!(
        "cd {} && tar -czf {ARCHIVE}.tar.gz {ARCHIVE} && sha256sum {ARCHIVE}.tar.gz > SHA256SUMS",
        folder.display()
    ));
    format!("file://{}", folder.display())
}

/// A job of GitHub Actions, whose steps share files.
struct ActionJob<'a> {
    net: &'a TestInternet,
    temp: PathBuf,
    /// How a step is started: as root, or as the user.
    shell: Vec<String>,
}

impl<'a> ActionJob<'a> {
    fn new(net: &'a TestInternet) -> Self {
        let temp = net.host.dir().join("temp");
        fs::create_dir_all(&temp).expect("make a folder");
        Self { net, temp, shell: vec!["bash".to_owned()] }
    }

    /// The job of a user who may use sudo, as on the machines of GitHub.
    fn of_user(net: &'a TestInternet) -> Self {
        let job = Self::new(net);
        chown(&job.temp, Some(USER_ID), Some(USER_ID)).expect("change the owner");
        net.host.sh(&format!(
            "echo '{USER} ALL=(ALL) NOPASSWD: ALL' > /etc/sudoers.d/tester; chmod 440 /etc/sudoers.d/tester"
        ));
        let id = USER_ID.to_string();
        let shell = ["setpriv", "--reuid", &id, "--regid", &id, "--clear-groups", "bash"];
        Self { shell: shell.map(str::to_owned).into(), ..job }
    }

    fn step(&self, script: &str, variables: &[(&str, &str)]) -> Output {
        let mut step = self.net.host.command(&self.shell[0]);
        step.args(&self.shell[1..])
            .arg(repository().join(".github/action").join(script))
            .env("RUNNER_TEMP", &self.temp);
        for name in ["GITHUB_PATH", "GITHUB_OUTPUT", "GITHUB_STEP_SUMMARY"] {
            step.env(name, self.temp.join(name));
        }
        let path = format!("{}:{}", self.read("GITHUB_PATH").trim(), std::env::var("PATH").expect("a PATH"));
        step.env("PATH", path).env("GITHUB_ACTIONS", "true").envs(variables.iter().copied());
        step.output().expect("start bash")
    }

    fn install(&self, releases: &str) -> Output {
        self.step("install.sh", &[("RELEASES", releases), ("VERSION", "v0.0.0")])
    }

    fn check(&self, command: &str, sarif: &str) -> Output {
        self.step("check.sh", &[("COMMAND", command), ("POLICY", "netwatch.toml"), ("SARIF", sarif)])
    }

    /// What the steps wrote for the job.
    fn read(&self, name: &str) -> String {
        fs::read_to_string(self.temp.join(name)).unwrap_or_default()
    }
}

fn code(output: &Output) -> Option<i32> {
    output.status.code()
}

fn printed(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

#[test]
fn the_action_checks_a_command_with_the_netwatch_of_a_release() {
    needs!("curl");
    let net = internet!();
    let releases = release(&net).replace("/download/v0.0.0", "");
    let job = ActionJob::new(&net);
    let installed = job.install(&releases);
    assert_eq!(code(&installed), Some(0), "{}", printed(&installed));
    let installed_to = job.read("GITHUB_PATH");
    assert!(Path::new(installed_to.trim()).join("netwatch").exists(), "{installed_to}");

    let allowed = format!("curl -sS -o /dev/null http://{APP}/");
    let violation = format!("curl -sS http://{APP}:{REFUSED}/");
    let learned = job.check(&allowed, "");
    assert_eq!(code(&learned), Some(0), "{}", printed(&learned));
    let summary = job.read("GITHUB_STEP_SUMMARY");
    assert!(summary.contains("```toml") && summary.contains("name = \"app.example\""), "{summary}");

    fs::write(net.host.dir().join("netwatch.toml"), POLICY).expect("write the policy");
    for (command, expected) in [(allowed.as_str(), 0), ("exit 7", 7), (violation.as_str(), 1)] {
        let checked = job.check(command, "");
        assert_eq!(code(&checked), Some(expected), "{command}: {}", printed(&checked));
    }
    let summary = job.read("GITHUB_STEP_SUMMARY");
    assert!(summary.contains(&format!("tcp/{REFUSED}")), "{summary}");
    let page =
        job.read("GITHUB_OUTPUT").lines().last().and_then(|line| line.strip_prefix("report=")).map(PathBuf::from);
    assert!(fs::read_to_string(page.expect("an output")).expect("the page").contains("<html"));

    let sarif = job.check(&violation, "net.sarif");
    assert_eq!(code(&sarif), Some(1), "{}", printed(&sarif));
    // Root checks a private copy of the policy.
    assert!(printed(&sarif).contains("::error file=netwatch.toml,line="), "annotations: {}", printed(&sarif));
    let results = fs::read_to_string(net.host.dir().join("net.sarif")).expect("the file");
    assert!(results.contains("\"ruleId\""), "{results}");
}

#[test]
fn the_action_of_a_user_runs_the_command_as_the_user_with_its_variables() {
    needs!("curl", "sudo", "setpriv");
    let net = internet!();
    let releases = release(&net).replace("/download/v0.0.0", "");
    let job = ActionJob::of_user(&net);
    let installed = job.install(&releases);
    assert_eq!(code(&installed), Some(0), "{}", printed(&installed));
    fs::write(net.host.dir().join("netwatch.toml"), POLICY).expect("write the policy");
    let seen = job.temp.join("seen");
    let command = format!("curl -sS -o /dev/null http://{APP}/; echo $(id -u) $VERSION > {}", seen.display());
    let variables = [("COMMAND", command.as_str()), ("POLICY", "netwatch.toml"), ("SARIF", ""), ("VERSION", "7")];
    let checked = job.step("check.sh", &variables);
    assert_eq!(code(&checked), Some(0), "{}", printed(&checked));
    assert_eq!(fs::read_to_string(seen).expect("written").trim(), format!("{USER_ID} 7"));
    let page = job.temp.join("netwatch.html");
    assert_eq!(fs::metadata(page).expect("the page").uid(), USER_ID);
    assert!(job.read("GITHUB_STEP_SUMMARY").contains("netwatch"), "{}", job.read("GITHUB_STEP_SUMMARY"));
}

#[test]
fn the_action_refuses_a_program_with_another_checksum() {
    needs!("curl");
    let net = internet!();
    let release = release(&net);
    let folder = net.host.dir().join("releases/download/v0.0.0");
    let wrong = format!("{}  {ARCHIVE}.tar.gz\n", "0".repeat(64));
    fs::write(folder.join("SHA256SUMS"), wrong).expect("write the checksums");
    let job = ActionJob::new(&net);
    let installed = job.install(&release.replace("/download/v0.0.0", ""));
    assert_eq!(code(&installed), Some(1), "{}", printed(&installed));
    assert!(printed(&installed).contains(&format!("{ARCHIVE}.tar.gz: FAILED")), "{}", printed(&installed));
    assert_eq!(job.read("GITHUB_PATH"), "");
}

/// The lines of a part of the template, as GitLab's runner joins them.
fn gitlab_script(part: &str) -> String {
    let read = "import sys, yaml; print('\\n'.join(yaml.safe_load(open(sys.argv[1]))['.netwatch'][sys.argv[2]]))";
    let template = repository().join("docs/gitlab.yml");
    let output = Command::new("python3").args(["-c", read]).arg(template).arg(part).output().expect("start python3");
    assert!(output.status.success(), "{}", printed(&output));
    String::from_utf8_lossy(&output.stdout).into_owned()
}

#[test]
fn the_gitlab_template_checks_a_command_with_the_netwatch_of_a_release() {
    needs!("curl", "python3");
    let net = internet!();
    let release = release(&net);
    fs::write(net.host.dir().join("netwatch.toml"), POLICY).expect("write the policy");
    let script = ["before_script", "script"].map(gitlab_script).join("\n");
    for (command, expected, result) in [
        (format!("curl -sS -o /dev/null http://{APP}/"), 0, "failures=\"0\""),
        (format!("curl -sS http://{APP}:{REFUSED}/"), 1, "failures=\"1\""),
    ] {
        let mut job = net.host.command("bash");
        job.args(["-eo", "pipefail", "-c", &script]).env("RELEASE", &release);
        job.env("HOME", net.host.dir().join("job"));
        let checked = job.env("COMMAND", &command).env("POLICY", "netwatch.toml").output().expect("start bash");
        assert_eq!(code(&checked), Some(expected), "{command}: {}", printed(&checked));
        let results = fs::read_to_string(net.host.dir().join("netwatch.xml")).expect("the file");
        assert!(results.contains(result), "{results}");
        assert!(results.contains("\"netwatch.toml\"") && !results.contains("policy.toml"), "{results}");
    }
}
