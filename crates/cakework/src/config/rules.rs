//! What a type cannot say about settings: ranges, and what must fit together.
//!
//! Pure: whether the machine can do it is the doctor's question.

use std::path::Path;

use super::settings::Settings;

/// A rule that is broken: (key, what is wrong, the fix).
pub type Broken = (&'static str, String, String);

/// A unix socket's path has at most 107 bytes, and the longest of ours, the engine's own control socket, adds 38.
pub const DATA_DIR_MAX_BYTES: usize = 68;

/// All rules that the settings break.
pub fn broken(settings: &Settings) -> Vec<Broken> {
    let mut found = Vec::new();
    let mut rule = |kept: bool, key, message: String, fix: &str| {
        if !kept {
            found.push((key, message, fix.to_owned()));
        }
    };
    let dir = &settings.data_dir;
    rule(dir.is_absolute(), "data_dir", format!("{} is relative", dir.display()), "write the whole path, from /");
    rule(
        dir.as_os_str().len() <= DATA_DIR_MAX_BYTES,
        "data_dir",
        format!("{} is longer than {DATA_DIR_MAX_BYTES} bytes, too long for the sockets in it", dir.display()),
        "choose a shorter path",
    );
    rule(
        is_plain(dir),
        "data_dir",
        format!("{} has `..` or a comma, colon or backslash in it", dir.display()),
        "choose a plain path: overlay mounts can't name this one",
    );
    for (key, address) in [("listen", settings.listen), ("edge_listen", settings.edge_listen)] {
        rule(address.port() != 0, key, format!("{address} has no port"), "write a port, such as 8081");
    }
    let clash = settings.listen.port() == settings.edge_listen.port()
        && (settings.listen.ip() == settings.edge_listen.ip()
            || settings.listen.ip().is_unspecified()
            || settings.edge_listen.ip().is_unspecified());
    rule(
        !clash,
        "edge_listen",
        format!("{} is the API's address too", settings.edge_listen),
        "give the edge another port",
    );
    if let Some(address) = settings.metrics_listen {
        rule(
            address.port() != 0 && !address.ip().is_unspecified(),
            "metrics_listen",
            format!("{address} has no port, or is every address: metrics are read without a key"),
            "write one address that only operators reach, such as 127.0.0.1:9464",
        );
    }
    let (cap, of_account) = (settings.cached.waiting_mib, settings.cached.account_waiting_mib);
    rule(
        cap.zip(of_account).is_none_or(|(cap, of_account)| of_account <= cap),
        "cached.account_waiting_mib",
        "one account may take more than all together".to_owned(),
        "write no more than cached.waiting_mib",
    );
    rule(
        is_domain(&settings.base_domain),
        "base_domain",
        format!("{:?} is not a domain in lower case", settings.base_domain),
        "write a name such as vms.example.com, without scheme, port or final dot",
    );
    if let Some(url) = &settings.public_url {
        let kept = (url.starts_with("http://") || url.starts_with("https://")) && url.contains("{hostname}");
        rule(
            kept,
            "public_url",
            format!("{url:?} does not say where the hostname goes"),
            "write it like \"https://{hostname}\"",
        );
    }
    for origin in &settings.cors_origins {
        rule(
            is_origin(origin),
            "cors_origins",
            format!("{origin:?} is not an origin"),
            "write scheme and host as browsers send them, such as \"https://app.example.com\", without a path; \"*\" is every page",
        );
    }
    let runsc = &settings.isolation.runsc;
    rule(
        runsc.is_absolute(),
        "isolation.runsc",
        format!("{} is relative", runsc.display()),
        "write the whole path, such as /usr/bin/runsc",
    );
    rule(
        (1..=64).contains(&settings.capacity.cpu_factor),
        "capacity.cpu_factor",
        format!("{} is not in 1 to 64", settings.capacity.cpu_factor),
        "1 promises each CPU once",
    );
    rule(
        (1..=16_000).contains(&settings.capacity.slots),
        "capacity.slots",
        format!("{} is not in 1 to 16000", settings.capacity.slots),
        "it is the number of VMs at once",
    );
    if let Some(pool) = settings.network.pool {
        rule(
            pool.prefix_len() == 16 && pool.trunc() == pool,
            "network.pool",
            format!("{pool} is not a /16"),
            "write a network of 65536 addresses, such as 10.77.0.0/16",
        );
    }
    let images = &settings.images;
    rule(
        (1..=16).contains(&images.parallel_layers),
        "images.parallel_layers",
        format!("{} is not in 1 to 16", images.parallel_layers),
        "3 keeps a disk and a line busy",
    );
    rule(
        (1..=127).contains(&images.max_layers),
        "images.max_layers",
        format!("{} is not in 1 to 127", images.max_layers),
        "an overlay takes no more than 127",
    );
    for registry in images.plain_http.iter().chain(images.mirrors.keys()).chain(images.mirrors.values().flatten()) {
        let key = if images.plain_http.contains(registry) { "images.plain_http" } else { "images.mirrors" };
        rule(
            is_registry(registry),
            key,
            format!("{registry:?} is not a registry"),
            "write host, host:port or host:port/prefix, without a scheme",
        );
    }
    let builds = &settings.builds;
    for (key, value, least, most) in [
        ("builds.parallel", u32::from(builds.parallel), 1, 64),
        ("builds.cpu", builds.cpu, 1, 64),
        ("builds.memory_mib", builds.memory_mib, 256, 1 << 20),
        ("builds.disk_mib", builds.disk_mib, 64, 1 << 20),
        ("builds.tmpfs_mib", builds.tmpfs_mib, 1, builds.memory_mib.max(1)),
        ("builds.cache_mount_mib", builds.cache_mount_mib, 16, 1 << 20),
    ] {
        rule(
            (least..=most).contains(&value),
            key,
            format!("{value} is not in {least} to {most}"),
            "see docs/config.example.toml",
        );
    }
    let git = &settings.git;
    rule(
        git.base_url.starts_with("https://") || git.base_url.starts_with("http://"),
        "git.base_url",
        format!("{:?} is not the URL of a forge", git.base_url),
        "write it like \"https://github.com\"",
    );
    for (key, file) in [
        ("images.ca_file", &images.ca_file),
        ("git.ca_file", &git.ca_file),
        ("webhooks.ca_file", &settings.webhooks.ca_file),
    ] {
        let Some(file) = file else { continue };
        rule(file.is_absolute(), key, format!("{} is relative", file.display()), "write the whole path, from /");
    }
    let logs = &settings.logs;
    rule(
        logs.segment_bytes >= 1 << 20,
        "logs.segment_bytes",
        format!("{} is less than 1 MiB", logs.segment_bytes),
        "8388608 is the default",
    );
    rule(
        logs.total_bytes >= logs.segment_bytes.saturating_mul(2),
        "logs.total_bytes",
        format!("{} is less than two segments", logs.total_bytes),
        "the oldest segment goes when the next is full: keep at least two",
    );
    for (key, rate) in [
        ("logs.lines_per_second", logs.lines_per_second),
        ("logs.bytes_per_second", logs.bytes_per_second),
        ("logs.burst_lines", logs.burst_lines),
        ("logs.burst_bytes", logs.burst_bytes),
    ] {
        rule(rate > 0, key, "0 lets nothing through".to_owned(), "leave the key out for the default");
    }
    rule(
        (64..=1 << 20).contains(&settings.vm.disk_mib),
        "vm.disk_mib",
        format!("{} is not in 64 to 1048576", settings.vm.disk_mib),
        "2048 is the default",
    );
    rule(
        (10..=86_400).contains(&settings.vm.start_timeout_secs),
        "vm.start_timeout_secs",
        format!("{} is not in 10 to 86400", settings.vm.start_timeout_secs),
        "600 is the default",
    );
    found
}

fn is_plain(dir: &Path) -> bool {
    let bytes = dir.as_os_str().as_encoded_bytes();
    let parts = dir.components().all(|part| !matches!(part, std::path::Component::ParentDir));
    parts && !bytes.iter().any(|byte| matches!(byte, b',' | b':' | b'\\' | b'\n' | b'"'))
}

/// RFC 1123 host names; 26 characters and a dot must fit before it.
fn is_domain(name: &str) -> bool {
    let label = |label: &str| {
        (1..=63).contains(&label.len())
            && label.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    name.len() <= 226 && name.split('.').all(label)
}

/// `*`, or scheme, host and port as the header `Origin` has them (RFC 6454).
fn is_origin(text: &str) -> bool {
    let host = text.strip_prefix("https://").or_else(|| text.strip_prefix("http://"));
    let is_host = |host: &str| {
        !host.is_empty() && host.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b".-:[]".contains(&b))
    };
    text == "*" || host.is_some_and(is_host)
}

fn is_registry(name: &str) -> bool {
    !name.is_empty()
        && !name.contains("//")
        && !name.starts_with('/')
        && name.bytes().all(|b| b.is_ascii_alphanumeric() || b".-_:/[]".contains(&b))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_defaults_keep_every_rule() {
        assert_eq!(broken(&Settings::default()), []);
    }

    #[test]
    fn each_rule_can_be_broken() {
        type Spoil = fn(&mut Settings);
        let cases: [(&str, Spoil); 19] = [
            ("data_dir", |s| s.data_dir = "data".into()),
            ("data_dir", |s| s.data_dir = format!("/{}", "d".repeat(90)).into()),
            ("data_dir", |s| s.data_dir = "/a:b".into()),
            ("listen", |s| s.listen.set_port(0)),
            ("edge_listen", |s| s.edge_listen = s.listen),
            ("metrics_listen", |s| s.metrics_listen = "0.0.0.0:9464".parse().ok()),
            ("metrics_listen", |s| s.metrics_listen = "127.0.0.1:0".parse().ok()),
            ("cached.account_waiting_mib", |s| {
                s.cached = crate::config::settings::Cached { waiting_mib: Some(1), account_waiting_mib: Some(2) }
            }),
            ("base_domain", |s| s.base_domain = "https://x".into()),
            ("public_url", |s| s.public_url = Some("https://example.com".into())),
            ("cors_origins", |s| s.cors_origins = vec!["https://a.example/".into()]),
            ("cors_origins", |s| s.cors_origins = vec!["https://a.example".into(), "A".into()]),
            ("isolation.runsc", |s| s.isolation.runsc = "runsc".into()),
            ("capacity.cpu_factor", |s| s.capacity.cpu_factor = 0),
            ("network.pool", |s| s.network.pool = Some("10.1.0.0/20".parse().expect("a network"))),
            ("images.parallel_layers", |s| s.images.parallel_layers = 0),
            ("images.plain_http", |s| s.images.plain_http = vec!["http://r".into()]),
            ("logs.total_bytes", |s| s.logs.total_bytes = s.logs.segment_bytes),
            ("vm.disk_mib", |s| s.vm.disk_mib = 1),
        ];
        for (key, spoil) in cases {
            let mut settings = Settings::default();
            spoil(&mut settings);
            let found: Vec<_> = broken(&settings).into_iter().map(|(key, ..)| key).collect();
            assert_eq!(found, [key]);
        }
    }
}
