//! What a project begins with.

use std::io::Write as _;
use std::path::Path;

use super::{FILE, check_name, name_of};
use crate::args::Template;
use crate::failure::{Failure, Result};

/// The port that the templates' servers listen on.
const PORT: u16 = 8080;

/// The files of a template, by their names.
fn files(template: Template) -> &'static [(&'static str, &'static str)] {
    match template {
        Template::Python => &[
            ("Dockerfile", include_str!("templates/python/Dockerfile")),
            ("main.py", include_str!("templates/python/main.py")),
            (".dockerignore", include_str!("templates/python/dockerignore")),
        ],
        Template::Node => &[
            ("Dockerfile", include_str!("templates/node/Dockerfile")),
            ("main.js", include_str!("templates/node/main.js")),
            ("package.json", include_str!("templates/node/package.json")),
            (".dockerignore", include_str!("templates/node/dockerignore")),
        ],
        Template::Dockerfile => &[("Dockerfile", include_str!("templates/dockerfile/Dockerfile"))],
    }
}

/// Writes a template's files into a folder, and nothing over what is there. Gives the project's name and the files.
pub(crate) fn init(dir: &Path, template: Template, name: Option<&str>) -> Result<(String, Vec<&'static str>)> {
    std::fs::create_dir_all(dir)?;
    let name = match name {
        Some(name) => name.to_owned(),
        None => {
            name_of(dir).ok_or_else(|| Failure::usage("the folder's name is none for a project").fix("pass --name"))?
        }
    };
    check_name(&name)?;
    let text = format!(
        "name = \"{name}\"\nport = {PORT}\n# Asleep after a minute without work; a request wakes it.\nidle_timeout_seconds = 60\n\n[env]\n"
    );
    let all: Vec<(&'static str, &str)> =
        std::iter::once((FILE, text.as_str())).chain(files(template).iter().copied()).collect();
    if let Some((taken, _)) = all.iter().find(|(file, _)| dir.join(file).symlink_metadata().is_ok()) {
        return Err(Failure::usage(format!("{} is there already", dir.join(taken).display()))
            .fix("choose an empty folder, or move the file away: nothing is written over"));
    }
    for (file, text) in &all {
        std::fs::File::create_new(dir.join(file))?.write_all(text.as_bytes())?;
    }
    Ok((name, all.into_iter().map(|(file, _)| file).collect()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::project::Project;

    #[test]
    fn each_template_makes_a_project_and_nothing_twice() {
        for template in [Template::Python, Template::Node, Template::Dockerfile] {
            let dir = tempfile::tempdir().expect("a directory");
            let folder = dir.path().join("My App_2");
            let (name, files) = init(&folder, template, None).expect("made");
            assert_eq!(name, "my-app-2");
            let project = Project::read(&folder).expect("a project");
            assert_eq!((project.name.as_str(), project.port), ("my-app-2", Some(PORT)));
            assert!(files.contains(&"Dockerfile"));
            assert!(init(&folder, template, Some("other")).is_err());
            assert_eq!(Project::read(&folder).expect("as before").name, "my-app-2");
        }
        let dir = tempfile::tempdir().expect("a directory");
        assert!(init(dir.path(), Template::Node, Some("../x")).is_err());
    }
}
