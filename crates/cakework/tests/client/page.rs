//! The page of the command line, typed line by line.

use std::path::Path;
use std::process::Stdio;

use cakework_testkit::git::{Access, File};
use cakework_testkit::images::{Compression, Format, python};
use cakework_testkit::{Auth, GitServer, Registry};
use tokio::io::AsyncWriteExt as _;

use crate::person::Person;
use crate::support::{PROGRAM, stderr, stdout};

/// The commands of docs/cli.md, one after the other as they stand there: only what a reader has to put in its place is.
#[tokio::test(flavor = "multi_thread")]
async fn the_page_of_the_command_line_is_true() {
    let (hub, forge) =
        (Registry::start(Auth::Anonymous).await.expect("a registry"), GitServer::start().await.expect("a forge"));
    let base = python(Format::Oci, Compression::Gzip).expect("an image").build();
    hub.push("library/python", "3.12-slim", &base).await.expect("pushed");
    let repository = forge.create("org/repo", Access::Private).expect("a repository");
    let dockerfile = "FROM docker.io/library/python:3.12-slim\nCMD [\"true\"]\n";
    repository.commit("main", &[File::plain("README.md", "hello\n")]).expect("a commit");
    let more = format!(
        "[images.mirrors]\n\"docker.io\" = [\"{}\"]\n[git]\nbase_url = \"{}\"\nca_file = \"{}\"\n",
        hub.host(),
        forge.base_url(),
        forge.ca_file().display(),
    );
    let person = Person::beside(&more).await;
    std::fs::write(person.folder("password-file"), "a password\n").expect("written");
    std::fs::write(person.folder("data"), "of the reader\n").expect("written");
    std::fs::write(person.folder("Dockerfile"), dockerfile).expect("written");

    let page = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/cli.md")).expect("the page");
    let blocks = page.split("```sh\n").skip(1).map(|rest| rest.split("```").next().expect("its end"));
    let (mut image, mut vm) = (String::new(), String::new());
    let mut ran = 0;
    for line in blocks.flat_map(str::lines).filter(|line| !line.is_empty()) {
        let pairs = [
            ("https://api.example.com", person.server.url()),
            ("registry.example.com/team/app:1", person.registry.reference("team/python", "3")),
            ("REGISTRY_PASSWORD=…", format!("REGISTRY_PASSWORD={}", person.registry.password())),
            ("GITHUB_TOKEN=…", format!("GITHUB_TOKEN={}", forge.token())),
            ("build . ", "build my-app ".to_owned()),
            ("IMAGE_ID", image.clone()),
            ("VM_ID", vm.clone()),
        ];
        let typed = pairs.iter().fold(line.to_owned(), |line, (theirs, ours)| line.replace(theirs, ours));
        // What is followed has no end of its own.
        let is_followed = typed.contains(" -f ") && typed.contains("logs");
        let typed = if is_followed { format!("timeout --foreground -s INT 3 {typed}") } else { typed };
        let program = Path::new(PROGRAM).parent().expect("a directory");
        let path = format!("{}:{}", program.display(), std::env::var("PATH").expect("a path"));
        let mut shell = tokio::process::Command::new("sh");
        shell.args(["-c", &typed]).env_clear().env("PATH", path).env("NPM_TOKEN", "a token").envs(person.env());
        shell.current_dir(person.home.path()).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = shell.spawn().expect("a shell");
        let mut stdin = child.stdin.take().expect("a pipe");
        let answer = if line.contains("login") { person.server.key() } else { "" };
        stdin.write_all(answer.as_bytes()).await.expect("it reads");
        drop(stdin);
        let output = child.wait_with_output().await.expect("an end");
        let expected = if is_followed { 124 } else { 0 };
        assert_eq!(output.status.code(), Some(expected), "{typed}\n{}{}", stdout(&output), stderr(&output));
        let answer = stdout(&output).trim().to_owned();
        if line.contains("cakework build .") {
            image = answer;
        } else if line.contains("cakework vm start") {
            vm = answer;
        }
        ran += 1;
    }
    assert!(ran >= 14, "the page has only {ran} commands");
    assert_eq!(person.ok(&["vm", "exec", &vm, "--", "cat", "/srv/data"]).await, "of the reader");
}
