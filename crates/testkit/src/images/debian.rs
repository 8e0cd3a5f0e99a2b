//! Images of this machine's Debian packages: busybox alone, a Python web app, and a large one for benchmarks.
//!
//! Packages come through the machine's own apt, whatever it is set to. The first Python image costs
//! some seconds and some 20 MB of download; later ones come from the cache.

use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, ensure};

use super::cache::cached;
use super::{Builder, Compression, Entry, Format, Layer, digest};
use crate::process::run;

/// The app in [`python_app`]'s image.
const APP: &str = include_str!("../../app/app.py");
/// What the Python image is made of; apt adds what these need.
const PACKAGES: [&str; 5] = ["python3", "base-files", "ca-certificates", "coreutils", "dash"];
/// Raised when the way in which the cached layers are made changes.
const RECIPE: &str = "3";
/// Directories that a merged `/usr` links to.
const MERGED: [&str; 4] = ["bin", "sbin", "lib", "lib64"];

const PASSWD: &str = "root:x:0:0:root:/root:/bin/sh\napp:x:1000:1000:app:/home/app:/bin/sh\n";
const GROUP: &str = "root:x:0:\napp:x:1000:\nstaff:x:50:app\n";

/// A shell and some 300 tools in 2 MB. Its command ends at once.
pub fn busybox(format: Format, compression: Compression) -> Result<Builder> {
    Ok(Builder::new(format)
        .layer(Layer::new(&busybox_entries()?, compression))
        .cmd(&["/bin/true"])
        .env(&["PATH=/bin:/usr/bin"]))
}

/// Python with a shell and the usual tools: what a Dockerfile begins with.
pub fn python(format: Format, compression: Compression) -> Result<Builder> {
    let mut builder = Builder::new(format);
    for layer in python_layers(compression)? {
        builder = builder.layer(layer);
    }
    Ok(builder.cmd(&["python3"]).env(&["PATH=/usr/local/bin:/usr/bin:/bin", "LANG=C.UTF-8"]))
}

/// A web app in Python on port 8080, in three layers, as a user's own image would be. `app/app.py` says what it answers.
pub fn python_app(format: Format, compression: Compression) -> Result<Builder> {
    let builder = python(format, compression)?;
    let app = [Entry::dir("app"), Entry::program("app/app.py", APP)];
    Ok(builder
        .layer(Layer::new(&app, compression))
        .entrypoint(&["python3", "-u", "/app/app.py"])
        .env(&["PATH=/usr/local/bin:/usr/bin:/bin", "LANG=C.UTF-8", "PORT=8080"])
        .workdir("/app"))
}

/// [`python_app`] with four more layers of generated files: some 425 MB unpacked in some 10,000 files.
pub fn large(format: Format, compression: Compression) -> Result<Builder> {
    let mut builder = python_app(format, compression)?;
    let name = format!("filler-{RECIPE}-{}", extension(compression));
    let dir = cached(&name, |dir| {
        for seed in 0..FILLER_LAYERS {
            let root = dir.join("root");
            write_filler(&root.join(format!("opt/filler{seed}")), seed)?;
            write_layer(dir, &format!("filler{seed}"), &root, compression)?;
            fs::remove_dir_all(root)?;
        }
        Ok(())
    })?;
    for seed in 0..FILLER_LAYERS {
        builder = builder.layer(read_layer(&dir, &format!("filler{seed}"), compression)?);
    }
    Ok(builder)
}

fn busybox_entries() -> Result<Vec<Entry>> {
    let program = ["/bin/busybox", "/usr/bin/busybox"].iter().find_map(|path| fs::read(path).ok());
    let program = program.context("busybox comes with the package busybox-static")?;
    let applets = run(Command::new("busybox").arg("--list"))?.stdout;
    let mut entries: Vec<Entry> = ["bin", "etc", "home", "root", "usr", "usr/bin", "var"].map(Entry::dir).into();
    entries.push(Entry::Dir { path: "tmp".into(), mode: 0o1777 });
    entries.push(Entry::program("bin/busybox", program));
    for applet in String::from_utf8(applets)?.lines().filter(|name| *name != "busybox") {
        entries.push(Entry::symlink(&format!("bin/{applet}"), "busybox"));
    }
    entries.push(Entry::file("etc/passwd", PASSWD));
    entries.push(Entry::file("etc/group", GROUP));
    Ok(entries)
}

/// Debian's base below, Python above it.
fn python_layers(compression: Compression) -> Result<[Layer; 2]> {
    let wanted = closure()?;
    let name = format!("python-{}-{}", &digest(format!("{RECIPE}{wanted}").as_bytes())[7..23], extension(compression));
    let dir = cached(&name, |dir| {
        let (base, python) = (dir.join("base-root"), dir.join("python-root"));
        unpack_packages(&dir.join("packages"), &base)?;
        compile(&base)?;
        split(&base, &python)?;
        write_layer(dir, "base", &base, compression)?;
        write_layer(dir, "python", &python, compression)?;
        for done in [base, python, dir.join("packages")] {
            fs::remove_dir_all(done)?;
        }
        Ok(())
    })?;
    Ok([read_layer(&dir, "base", compression)?, read_layer(&dir, "python", compression)?])
}

/// apt as on a machine where nothing is installed.
fn apt(words: &[&str]) -> Command {
    let mut command = Command::new("apt-get");
    command.args(["-y", "-q", "--no-install-recommends", "-o", "Dir::State::status=/dev/null"]);
    command.args(["-o", "Debug::NoLocking=1", "-o", "APT::Sandbox::User=root"]);
    command.args(words).args(["install"]).args(PACKAGES).env("LC_ALL", "C");
    command
}

/// The file names of all packages that the image takes, versions included.
fn closure() -> Result<String> {
    let output =
        run(&mut apt(&["--print-uris"])).context("finding the packages of the Python image (apt-get update?)")?;
    let text = String::from_utf8(output.stdout)?;
    let mut names: Vec<&str> =
        text.lines().filter(|line| line.starts_with('\'')).filter_map(|line| line.split(' ').nth(1)).collect();
    ensure!(names.iter().any(|name| name.starts_with("python3")), "apt-get named no package:\n{text}");
    names.sort_unstable();
    Ok(names.join("\n"))
}

fn unpack_packages(packages: &Path, root: &Path) -> Result<()> {
    fs::create_dir_all(packages.join("partial"))?;
    let archives = format!("Dir::Cache::archives={}", packages.display());
    run(&mut apt(&["--download-only", "-o", &archives])).context("downloading the packages of the Python image")?;
    make_root(root)?;
    for entry in fs::read_dir(packages)? {
        let package = entry?.path();
        if package.extension().is_some_and(|extension| extension == "deb") {
            // Debian 12's packages still hold `/lib`: tar must follow the links of the merged `/usr`.
            let script = r#"dpkg-deb --fsys-tarfile "$1" | tar -x --keep-directory-symlink -C "$2""#;
            run(Command::new("bash").args(["-o", "pipefail", "-c", script, "unpack"]).arg(&package).arg(root))?;
        }
    }
    for unneeded in
        ["usr/share/doc", "usr/share/man", "usr/share/locale", "usr/share/info", "var/cache", "var/lib/dpkg"]
    {
        if root.join(unneeded).exists() {
            fs::remove_dir_all(root.join(unneeded))?;
        }
    }
    fs::write(root.join("etc/passwd"), PASSWD)?;
    fs::write(root.join("etc/group"), GROUP)?;
    // Packages' own scripts do not run here; this is what ca-certificates' would make, as one file.
    let bundle = r#"cd "$1" && cat usr/share/ca-certificates/*/*.crt > etc/ssl/certs/ca-certificates.crt"#;
    run(Command::new("sh").args(["-c", bundle, "bundle"]).arg(root))?;
    Ok(())
}

/// The directories and links that every package of a merged `/usr` expects.
fn make_root(root: &Path) -> Result<()> {
    for name in MERGED {
        fs::create_dir_all(root.join("usr").join(name))?;
        std::os::unix::fs::symlink(format!("usr/{name}"), root.join(name))?;
    }
    Ok(())
}

/// Compiles Python's library, as its package's scripts would: each start would compile it anew otherwise.
fn compile(root: &Path) -> Result<()> {
    let link = fs::read_link(root.join("usr/bin/python3")).context("python3 links to its version")?;
    let version = link.to_str().context("a version is ASCII")?;
    let library = format!("/usr/lib/{version}");
    // The tar's times are not those of the files: only an unchecked hash stays valid.
    let words = ["-m", "compileall", "-q", "--invalidation-mode", "unchecked-hash", &library];
    run(Command::new("chroot").arg(root).arg(format!("/usr/bin/{version}")).args(words))
        .context("compiling Python's library in a chroot, which needs root")?;
    Ok(())
}

/// Moves Python out of `base` into a root of its own.
fn split(base: &Path, python: &Path) -> Result<()> {
    make_root(python)?;
    for dir in ["usr/bin", "usr/lib"] {
        for entry in fs::read_dir(base.join(dir))? {
            let name = entry?.file_name();
            if name.to_string_lossy().starts_with("python3") {
                fs::rename(base.join(dir).join(&name), python.join(dir).join(&name))?;
            }
        }
    }
    Ok(())
}

fn extension(compression: Compression) -> &'static str {
    match compression {
        Compression::None => "tar",
        Compression::Gzip => "tar.gz",
        Compression::Zstd => "tar.zst",
    }
}

fn write_layer(dir: &Path, name: &str, root: &Path, compression: Compression) -> Result<()> {
    let file = dir.join(format!("{name}.{}", extension(compression)));
    let layer = Layer::from_dir(root, compression, &file)?;
    Ok(fs::write(dir.join(format!("{name}.diff-id")), layer.diff_id())?)
}

fn read_layer(dir: &Path, name: &str, compression: Compression) -> Result<Layer> {
    let diff_id = fs::read_to_string(dir.join(format!("{name}.diff-id")))?;
    Layer::from_file(&dir.join(format!("{name}.{}", extension(compression))), diff_id, compression)
}

const FILLER_LAYERS: u64 = 4;
const FILLER_FILES: u64 = 2100;
/// Sizes are even between 2 and 82 KiB: 42 KiB on average, some 88 MB a layer.
const FILLER_FILE_MAX_BYTES: u64 = 80 * 1024;

/// Writes files that pack to some 40 %, as program text and libraries do: words of a small
/// dictionary with noise between them. Equal seeds make equal files.
fn write_filler(dir: &Path, seed: u64) -> Result<()> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    // xorshift64 (Marsaglia 2003): what is wanted is sameness in each run, not quality.
    let mut next = move || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state
    };
    let words: Vec<[u8; 12]> = (0..2048)
        .map(|_| {
            let mut word = [0; 12];
            word[..8].copy_from_slice(&next().to_le_bytes());
            word[8..].copy_from_slice(b"self");
            word
        })
        .collect();
    for file in 0..FILLER_FILES {
        let size_bytes = 2048 + next() % FILLER_FILE_MAX_BYTES;
        let mut bytes = Vec::with_capacity(size_bytes as usize + 20);
        while (bytes.len() as u64) < size_bytes {
            let roll = next();
            if roll % 4 == 0 {
                bytes.extend_from_slice(&roll.to_be_bytes());
            } else {
                bytes.extend_from_slice(&words[(roll >> 8) as usize % words.len()]);
            }
        }
        let below = dir.join(format!("module{}", file / 50));
        fs::create_dir_all(&below)?;
        fs::write(below.join(format!("part{file}.bin")), bytes)?;
    }
    Ok(())
}
