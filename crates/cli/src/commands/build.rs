//! `cakework build`, and the build that `deploy` and `run` begin with.

use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use cakework_api::build::{Build, BuildStatus};
use cakework_core::limit::DOCKERFILE_MAX_BYTES;
use reqwest::Method;
use serde_json::{Map, Value, json};

use super::pairs;
use crate::args::{self, BuildOptions};
use crate::client::{Again, Client, part};
use crate::failure::{Exit, Failure, Result};
use crate::follow::Follower;
use crate::progress::{Steps, Work};
use crate::project::Project;
use crate::show;
use crate::terminal::unless_interrupted;
use crate::upload::Folder;

/// Longest time that the files may take on their way.
const UPLOAD: Duration = Duration::from_secs(60);
/// Time between two looks at a build whose log has ended.
const LOOK: Duration = Duration::from_millis(200);

pub(super) async fn run(options: &args::Build) -> Result<Exit> {
    let client = Client::new(&options.to)?;
    let mut fields = fields(&options.build)?;
    if let Some(tenant) = &options.tenant {
        fields.insert("tenant".to_owned(), tenant.as_str().into());
    }
    let file = options.file.clone().unwrap_or_else(|| options.dir.join("Dockerfile"));
    fields.insert("dockerfile".to_owned(), dockerfile(&file)?.into());
    let build = match (&options.github, &options.branch) {
        (Some(repository), Some(branch)) => {
            fields.insert("repository".to_owned(), repository.as_str().into());
            fields.insert("branch".to_owned(), branch.as_str().into());
            if let Some(token) = std::env::var("GITHUB_TOKEN").ok().filter(|token| !token.is_empty()) {
                fields.insert("token".to_owned(), token.into());
            }
            client.make("/v1/image/build/github", &Value::Object(fields)).await?
        }
        _ => send(&client, &options.dir, fields).await?,
    };
    let build = follow(&client, build, &options.build).await?;
    if options.to.json {
        show::json(&build)?;
    } else {
        show::line(build.image_id.as_deref().unwrap_or_default());
    }
    Ok(Exit::Done)
}

/// Builds a project; gives the image's id.
pub(super) async fn of_project(
    client: &Client,
    dir: &Path,
    project: &Project,
    options: &BuildOptions,
) -> Result<String> {
    let mut all = options.clone();
    all.target = all.target.or_else(|| project.build.target.clone());
    all.secret.extend(project.build.secrets.iter().cloned());
    let mut fields = fields(&all)?;
    let mut args: Map<String, Value> =
        project.build.args.iter().map(|(name, value)| (name.clone(), value.as_str().into())).collect();
    args.extend(pairs("--build-arg", &options.build_arg)?);
    fields.insert("buildArgs".to_owned(), args.into());
    let file = dir.join(project.build.dockerfile.clone().unwrap_or_else(|| PathBuf::from("Dockerfile")));
    fields.insert("dockerfile".to_owned(), dockerfile(&file)?.into());
    fields.insert("metadata".to_owned(), json!({crate::project::MARK: project.name}));
    let build = send(client, dir, fields).await?;
    let build = follow(client, build, options).await?;
    build.image_id.ok_or_else(|| Failure::new(Exit::Failed, "the build has no image"))
}

/// What was said of a build beside its files.
fn fields(options: &BuildOptions) -> Result<Map<String, Value>> {
    let mut fields = Map::new();
    fields.insert("buildArgs".to_owned(), pairs("--build-arg", &options.build_arg)?.into());
    fields.insert("noCache".to_owned(), options.no_cache.into());
    if let Some(target) = &options.target {
        fields.insert("target".to_owned(), target.as_str().into());
    }
    let secret = |name: &String| match std::env::var(name) {
        Ok(value) => Ok((name.clone(), Value::from(value))),
        Err(_) => {
            Err(Failure::usage(format!("the secret {name} is not in the environment")).fix(format!("export {name}=…")))
        }
    };
    fields.insert("secrets".to_owned(), options.secret.iter().map(secret).collect::<Result<Map<_, _>>>()?.into());
    Ok(fields)
}

fn dockerfile(path: &Path) -> Result<String> {
    let said = |error: std::io::Error| {
        Failure::usage(format!("{} can't be read: {error}", path.display()))
            .fix("name the Dockerfile, or make one: cakework init")
    };
    let mut text = String::new();
    let most = DOCKERFILE_MAX_BYTES as u64 + 1;
    std::fs::File::open(path).map_err(said)?.take(most).read_to_string(&mut text).map_err(said)?;
    if text.len() > DOCKERFILE_MAX_BYTES {
        return Err(Failure::usage(format!("{} has more than {DOCKERFILE_MAX_BYTES} bytes", path.display())));
    }
    Ok(text)
}

/// Sends a folder's files.
async fn send(client: &Client, dir: &Path, fields: Map<String, Value>) -> Result<Build> {
    let folder = Folder::read(dir)?;
    let fields = Value::Object(fields);
    let work = Work::of_bytes("sending files", folder.bytes);
    let how = (Again::Keyed, UPLOAD, "application/json");
    let body = || folder.body(&fields, work.bar());
    let build = client.upload(Method::POST, "/v1/image/build/files", &[], how, body).await?;
    let count = folder.files.len();
    let plural = if count == 1 { "" } else { "s" };
    let rest = format!("{count} file{plural}, {} in {}", show::bytes(folder.bytes), work.seconds());
    work.done("sent", &rest);
    Ok(build)
}

/// Shows a build's steps until it is over. Ctrl-C cancels it.
async fn follow(client: &Client, build: Build, options: &BuildOptions) -> Result<Build> {
    let path = format!("/v1/image/build/{}", part(&build.build_id)?);
    let mut steps = Steps::new(options.plain);
    let over = async {
        Follower::new(client, format!("{path}/logs"), Vec::new())
            .run(|line| {
                steps.hear(&line);
                Ok(())
            })
            .await?;
        loop {
            let build: Build = client.get(&path, &[]).await?;
            if build.status != BuildStatus::Created {
                return Ok(build);
            }
            tokio::time::sleep(LOOK).await;
        }
    };
    let cancel = async {
        // It may be over meanwhile.
        let _ = client.post(&format!("{path}/cancel"), Again::Always).await;
        Err(Failure::new(Exit::Interrupted, "the build is cancelled"))
    };
    let build = unless_interrupted(over, cancel).await?;
    match (build.status, &build.error) {
        (BuildStatus::Failed, error) => {
            steps.failed();
            let why = error.as_ref().map_or_else(
                || "the build failed".to_owned(),
                |error| {
                    let line = error.line.map_or(String::new(), |line| format!("Dockerfile:{line}: "));
                    format!("{line}{}", error.message)
                },
            );
            Err(Failure::new(Exit::Failed, why))
        }
        _ => {
            let image = build.image_id.clone().unwrap_or_default();
            steps.done("built", &image);
            Ok(build)
        }
    }
}
