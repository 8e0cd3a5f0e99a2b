use super::*;
use crate::config::Config;
use crate::fault::FaultCode;

fn mount(text: &str) -> Result<Mount, Refusal> {
    let config = Config { env: vec!["A=x".to_owned()], working_dir: "/w".to_owned(), ..Config::default() };
    let trees = BTreeMap::from([("st".to_owned(), Tree::Stage(3))]);
    MountCommand::parse(text)?.expand(&Scope::new(&config, '\\'), &trees)
}

fn cache(id: &str) -> MountKind {
    MountKind::Cache {
        id: id.to_owned(),
        sharing: Sharing::Shared,
        from: None,
        mode: 0o755,
        uid: 0,
        gid: 0,
        read_only: false,
    }
}

fn secret(id: &str, env: Option<&str>) -> MountKind {
    let env = env.map(str::to_owned);
    MountKind::Secret { id: id.to_owned(), required: false, env, mode: 0o400, uid: 0, gid: 0 }
}

fn bind(from: Tree, source: &str, read_write: bool) -> MountKind {
    MountKind::Bind { from, source: source.to_owned(), read_write }
}

#[test]
fn mounts_have_buildkits_defaults() {
    for (text, target, kind) in [
        ("type=cache,target=/root/.cache/", Some("/root/.cache"), cache("/root/.cache")),
        ("type=cache,dst=c,id=$A", Some("/w/c"), cache("x")),
        ("type=cache,target=/c,from=scratch", Some("/c"), cache("/c")),
        (
            "type=cache,target=/c,id=i,sharing=LOCKED,from=st,source=/a/../b,mode=0700,uid=1,gid=2,ro",
            Some("/c"),
            MountKind::Cache {
                id: "i".to_owned(),
                sharing: Sharing::Locked,
                from: Some((Tree::Stage(3), "b".to_owned())),
                mode: 0o700,
                uid: 1,
                gid: 2,
                read_only: true,
            },
        ),
        ("type=secret,id=s", Some("/run/secrets/s"), secret("s", None)),
        ("type=secret,id=a/s", Some("/run/secrets/s"), secret("a/s", None)),
        ("type=secret,target=/etc/s", Some("/etc/s"), secret("s", None)),
        ("type=secret,src=s,dst=t", Some("/w/t"), secret("s", None)),
        ("type=secret,id=s,env=TOKEN", None, secret("s", Some("TOKEN"))),
        ("type=secret,id=s,env=", None, secret("s", Some("s"))),
        ("type=secret,id=s,env=T,target=/s", Some("/s"), secret("s", Some("T"))),
        (
            "required,type=secret,id=s,mode=0440,uid=5,gid=6",
            Some("/run/secrets/s"),
            MountKind::Secret { id: "s".to_owned(), required: true, env: None, mode: 0o440, uid: 5, gid: 6 },
        ),
        ("type=tmpfs,target=/t", Some("/t"), MountKind::Tmpfs { size_bytes: None }),
        ("type=tmpfs,target=/t,size=1.5m", Some("/t"), MountKind::Tmpfs { size_bytes: Some(1_572_864) }),
        ("target=/b", Some("/b"), bind(Tree::Context, ".", false)),
        ("type=bind,target=.,source=a/../../b", Some("/w"), bind(Tree::Context, "b", false)),
        ("from=st,target=/b,rw", Some("/b"), bind(Tree::Stage(3), ".", true)),
        ("from=st,target=/b,readonly=false", Some("/b"), bind(Tree::Stage(3), ".", true)),
        ("\"target=/a,b\",\"source=\"\"c\"\",d\"", Some("/a,b"), bind(Tree::Context, "c,d", false)),
    ] {
        assert_eq!(mount(text), Ok(Mount { target: target.map(str::to_owned), kind }), "{text}");
    }
}

#[test]
fn what_is_no_mount_is_refused() {
    use FaultCode::{Invalid, Unsupported};
    for (text, code) in [
        ("", Invalid),
        ("type=ssh", Unsupported),
        ("type=S$A", Invalid),
        ("type=bind,target=/", Invalid),
        ("type=bind,target=/a/..", Invalid),
        ("type=bind,target=/a,mode=7", Invalid),
        ("type=bind,target=/a,size=1", Invalid),
        ("type=bind,target=/a,required", Invalid),
        ("type=bind,target=/a,from=scratch", Unsupported),
        ("type=bind,target=/a,rw=maybe", Invalid),
        ("type=bind,target=/a,bogus=1", Unsupported),
        ("type=bind,target", Invalid),
        ("type=cache,target=/c,sharing=none", Invalid),
        ("type=cache,target=/c,size=1", Invalid),
        ("type=cache,target=/c,source=a", Unsupported),
        ("type=cache,target=/c,mode=9", Invalid),
        ("type=cache,target=/c,mode=17777", Invalid),
        ("type=cache,target=/c,uid=-1", Invalid),
        ("type=tmpfs,target=/t,from=st", Invalid),
        ("type=tmpfs,target=/t,ro", Invalid),
        ("type=tmpfs,target=/t,size=big", Invalid),
        ("type=tmpfs,target=/t,size=-1", Invalid),
        ("type=secret", Invalid),
        ("type=secret,id=..", Invalid),
        ("type=secret,id=a/..,target=/s", Invalid),
        ("type=secret,id=/", Invalid),
        ("type=secret,target=/", Invalid),
        ("type=secret,id=a,target=/..", Invalid),
        ("type=secret,id=a,source=b", Invalid),
        ("type=secret,id=a,from=st", Invalid),
        ("type=secret,id=a,sharing=shared", Invalid),
        ("type=secret,id=a,env=A=B", Invalid),
        ("\"target=/a", Invalid),
        ("\"target=/a\"b", Invalid),
        ("target=\"/a", Invalid),
    ] {
        let refusal = mount(text).unwrap_err();
        assert_eq!(refusal.code, code, "{text}: {}", refusal.message);
    }
}

#[test]
fn sizes_are_dockers() {
    for (text, expected) in [
        ("0", Some(0)),
        ("64", Some(64)),
        ("64k", Some(65_536)),
        ("1 GiB", Some(1 << 30)),
        ("2TB", Some(2 << 40)),
        ("m", None),
        ("1x", None),
        ("1.2.3m", None),
        ("", None),
        ("9999999p", None),
    ] {
        assert_eq!(size_bytes(text), expected, "{text}");
    }
}
