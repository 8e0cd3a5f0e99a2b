use crate::config::Config;
use crate::plan::{Inputs, plan};
use crate::step::{Action, Copy, Source, Tree};
use crate::walker::Walker;

fn copy(text: &str) -> Copy {
    let plan = plan(&format!("FROM a AS s\nFROM b\nENV A=x\nWORKDIR /app\n{text}"), &Inputs::default()).unwrap();
    let stage = plan.stages.len() - 1;
    let mut walker = Walker::new(&plan, stage, Config::default()).unwrap();
    let mut last = None;
    while let Some(step) = walker.next() {
        last = Some(step.unwrap().action);
    }
    if let Some(Action::Copy(copy)) = last { copy } else { panic!("{text}") }
}

fn path(text: &str) -> Source {
    Source::Path(text.to_owned())
}

fn inline(name: &str, content: &str) -> Source {
    Source::Inline { name: name.to_owned(), content: content.to_owned() }
}

#[test]
fn sources_and_destinations_are_read() {
    for (text, sources, destination) in [
        ("COPY a b/ c*/ ./", vec![path("a"), path("b"), path("c*")], "/app/"),
        ("COPY . .", vec![path(".")], "/app/"),
        ("COPY / /x", vec![path(".")], "/x"),
        ("COPY /a ../b", vec![path("a")], "/b"),
        ("COPY ../../etc/passwd x/", vec![path("etc/passwd")], "/app/x/"),
        ("COPY $A/${A} /$A", vec![path("x/x")], "/x"),
        ("COPY [\"a b\", \"$A c\"]", vec![path("a b")], "/app/x c"),
        ("COPY \"a\" 'b'", vec![path("a")], "/app/b"),
        ("COPY a[[]0] /", vec![path("a[[]0]")], "/"),
        ("COPY -- --a b", vec![path("--a")], "/app/b"),
        ("ADD http://h/a?b#c x.tar /d/", vec![Source::Url("http://h/a?b#c".to_owned()), path("x.tar")], "/d/"),
        (
            "COPY <<f a <<-\"g\" /d/\n\t$A \"q\" \\$A\nf\n\t$A\n\tg\n",
            vec![inline("f", "\tx \"q\" $A\n"), path("a"), inline("g", "$A\n")],
            "/d/",
        ),
        ("COPY <<f /d\nf", vec![inline("f", "")], "/d"),
    ] {
        let copy = copy(text);
        assert_eq!((copy.sources, copy.destination.as_str()), (sources, destination), "{text}");
    }
}

#[test]
fn flags_are_read() {
    let copy_one = copy(
        "COPY --from=S --chown=$A:1 --chmod=0755 --exclude=*.md --exclude=\"a b\" --link=false --parents=false a b",
    );
    assert_eq!(
        copy_one,
        Copy {
            from: Tree::Stage(0),
            sources: vec![path("a")],
            destination: "/app/b".to_owned(),
            owner: Some("x:1".to_owned()),
            mode: Some(0o755),
            exclude: vec!["*.md".to_owned(), "a b".to_owned()],
            add: false,
            checksum: None,
        }
    );
    assert_eq!(copy("COPY --from=busybox:1 a b").from, Tree::Image("busybox:1".to_owned()));
    assert_eq!(copy("COPY --from=0 a b").from, Tree::Stage(0));
    let own = "01GTZHKS9CZHQ1NKZCA3MG0H4D";
    assert_eq!(copy(&format!("COPY --from=cakework/{own} a b")).from, Tree::Own(own.to_owned()));
    let plain = copy("ADD --link a b");
    assert_eq!((plain.from, plain.add, plain.owner, plain.mode), (Tree::Context, true, None, None));
}
