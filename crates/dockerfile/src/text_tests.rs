use super::*;

fn parts(text: &str) -> Vec<(u32, String, String)> {
    let document = read(text).unwrap();
    document.instructions.into_iter().map(|one| (one.place.line, one.keyword, one.rest)).collect()
}

fn part(line: u32, keyword: &str, rest: &str) -> (u32, String, String) {
    (line, keyword.to_owned(), rest.to_owned())
}

#[test]
fn lines_become_instructions() {
    for (text, expected) in [
        ("FROM a\nRUN b\n", vec![part(1, "FROM", "a"), part(2, "RUN", "b")]),
        ("\u{feff}from a", vec![part(1, "FROM", "a")]),
        ("FROM a\r\nRUN b \\\r\n  c\r\n", vec![part(1, "FROM", "a"), part(2, "RUN", "b   c")]),
        ("# c\n\n  # d\n  FROM a\n", vec![part(4, "FROM", "a")]),
        ("RUN a \\\n# comment\n\n  # another\n  && b\nUSER c", vec![part(1, "RUN", "a   && b"), part(6, "USER", "c")]),
        ("RUN a \\  \t\nb", vec![part(1, "RUN", "a b")]),
        ("RUN a \\\\\nRUN b", vec![part(1, "RUN", "a \\\\"), part(2, "RUN", "b")]),
        ("RU\\\nN a", vec![part(1, "RUN", "a")]),
        ("RUN a # b \\\n c", vec![part(1, "RUN", "a # b  c")]),
        ("RUN a \\", vec![part(1, "RUN", "a")]),
        ("\\\n\\\nFROM a", vec![part(1, "FROM", "a")]),
        ("RUN\ta", vec![part(1, "RUN", "a")]),
        ("# escape=`\nRUN a \\\nRUN b `\n c", vec![part(2, "RUN", "a \\"), part(3, "RUN", "b  c")]),
        ("#syntax=docker/dockerfile:1.7-labs\n# ESCAPE = \\ \n# check=skip=all\nFROM a", vec![part(4, "FROM", "a")]),
        ("# note\n# escape=`\nRUN a \\\nb", vec![part(3, "RUN", "a b")]),
        ("# syntax=docker.io/docker/dockerfile:labs\n# syntax: no directive\nFROM a", vec![part(3, "FROM", "a")]),
    ] {
        assert_eq!(parts(text), expected, "{text:?}");
    }
}

#[test]
fn directives_are_checked() {
    for (text, code, line) in [
        ("# syntax=docker/dockerfile:1\n# syntax=docker/dockerfile:1\n", crate::FaultCode::Invalid, 2),
        ("# escape=x\n", crate::FaultCode::Invalid, 1),
        ("# syntax=ghcr.io/someone/frontend\n", crate::FaultCode::Unsupported, 1),
        ("# syntax=docker/dockerfile-upstream:master\n", crate::FaultCode::Unsupported, 1),
    ] {
        let fault = read(text).unwrap_err();
        assert_eq!((fault.code, fault.line), (code, line), "{text}");
    }
}

#[test]
fn here_documents_are_read() {
    let document = read(concat!(
        "RUN cat <<A - <<-'B' > /x\none\n\tA\nA\n\ttwo\n\tB\n",
        "COPY <<\"name with spaces\" /y\nx\nname with spaces\n",
        "RUN echo it's <<none\n",
        "RUN cat <<<word && echo 3<<F\nf\nF\n",
        "RUN [\"cat\", \"<<G\"]\n",
        "CMD cat <<H\n",
    ))
    .unwrap();
    let found: Vec<Vec<(&str, bool, bool, String)>> = document
        .instructions
        .iter()
        .map(|one| one.heredocs.iter().map(|doc| (&*doc.name, doc.expand, doc.chomp, doc.chomped())).collect())
        .collect();
    assert_eq!(
        found,
        [
            vec![("A", true, false, "one\n\tA\n".to_owned()), ("B", false, true, "two\n".to_owned())],
            vec![("name with spaces", false, false, "x\n".to_owned())],
            vec![],
            vec![("F", true, false, "f\n".to_owned())],
            vec![],
            vec![],
        ]
    );
    assert_eq!(document.instructions[2].place.line, 10);
    let fault = read("FROM a\nRUN <<EOF\nx\n EOF\n").unwrap_err();
    assert_eq!((fault.line, fault.instruction.as_str()), (2, "RUN <<EOF"));
}

#[test]
fn flags_are_split() {
    for (text, flags, rest) in [
        ("--a --b=c d --e", vec!["--a", "--b=c"], "d --e"),
        ("--a=\"b c\"'d e' f", vec!["--a=b cd e"], "f"),
        ("--a=b\\ c f", vec!["--a=b c"], "f"),
        ("-- --x", vec![], "--x"),
        ("-x", vec![], "-x"),
        ("--a=ü", vec!["--a=ü"], ""),
    ] {
        assert_eq!(flag::split(text, '\\'), (flags.into_iter().map(str::to_owned).collect(), rest), "{text}");
    }
}

#[test]
fn limits_hold() {
    let long = "#".repeat(DOCKERFILE_MAX_BYTES + 1);
    assert!(read(&long).unwrap_err().message.contains("bytes"));
    let many = "RUN x\n".repeat(DOCKERFILE_INSTRUCTIONS_MAX + 1);
    let fault = read(&many).unwrap_err();
    assert_eq!(fault.line as usize, DOCKERFILE_INSTRUCTIONS_MAX + 1);
    assert_eq!(read("FROM a\nRUN \0").unwrap_err().line, 2);
    let place = Place::of(&format!("RUN \u{1b}[31m {}", "é".repeat(500)), 1);
    assert!(place.text.chars().count() == 201 && place.text.starts_with("RUN [31m é"), "{}", place.text);
}

mod beside_another_parser {
    use proptest::prelude::*;

    /// What is written alike by both: no here-documents, no flags that only one knows.
    fn line() -> impl Strategy<Value = String> {
        prop_oneof![
            "(run|RUN|Run) [a-z$\"]{1,8}( \\\\\n#c\n [a-z]{1,5})?",
            "ENV [A-Z]{1,3}=[a-z]{0,4}( [A-Z]=\"[a-z ]{0,4}\")?",
            "COPY (--from=[a-z]{1,3} )?[a-z*]{1,5} /[a-z]{0,5}",
            "CMD \\[\"[a-z]{0,4}\"(, \"[a-z]{0,4}\")?\\]",
            "(WORKDIR|USER|STOPSIGNAL) [a-z/]{1,6}",
            "EXPOSE [1-9][0-9]{0,3}",
            "[ \t]{0,3}#[ -~]{0,9}",
            "[ \t]{0,3}",
        ]
    }

    proptest! {
        #[test]
        fn both_see_the_same_instructions(lines in proptest::collection::vec(line(), 0..12), crlf: bool) {
            let text = format!("FROM a\n{}\n", lines.join("\n"));
            let text = if crlf { text.replace('\n', "\r\n") } else { text };
            let theirs = parse_dockerfile::parse(&text).unwrap();
            let ours = super::read(&text).unwrap();
            prop_assert_eq!(theirs.instructions.len(), ours.instructions.len());
            for (their, our) in theirs.instructions.iter().zip(&ours.instructions) {
                let their = format!("{their:?}").to_uppercase();
                prop_assert!(their.starts_with(&our.keyword), "{} {}", their, our.keyword);
            }
        }
    }
}
