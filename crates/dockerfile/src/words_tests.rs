use super::*;

struct Set(&'static [(&'static str, &'static str)]);

impl Variables for Set {
    fn get(&self, name: &str) -> Option<&str> {
        self.0.iter().find(|(other, _)| *other == name).map(|(_, value)| *value)
    }
}

const SET: Set =
    Set(&[("A", "one"), ("E", ""), ("P", "a/b/c.tar.gz"), ("S", "two words"), ("Q", "it's"), ("STAR", "x*y")]);

fn word(text: &str) -> Result<String, Refusal> {
    Lex::new('\\', &SET, &Budget::new()).word(text)
}

#[test]
fn words_expand_as_buildkits_do() {
    for (text, expected) in [
        ("plain", "plain"),
        ("$A", "one"),
        ("${A}", "one"),
        ("x${A}y", "xoney"),
        ("$Ay", ""),
        ("$", "$"),
        ("a$", "a$"),
        ("$$", ""),
        ("\\$A", "$A"),
        ("\\\\$A", "\\one"),
        ("'$A'", "$A"),
        ("\"$A\"", "one"),
        ("\"\\$A\"", "$A"),
        ("\"a\\nb\"", "a\\nb"),
        ("\"a\\\"b\"", "a\"b"),
        ("a\\ b", "a b"),
        ("tail\\", "tail"),
        ("$S", "two words"),
        ("a'b c'd", "ab cd"),
        ("$1x", "x"),
        ("${U:-d}", "d"),
        ("${E:-d}", "d"),
        ("${E-d}", ""),
        ("${U-d}", "d"),
        ("${A:-d}", "one"),
        ("${A:+y}", "y"),
        ("${E:+y}", ""),
        ("${E+y}", "y"),
        ("${U+y}", ""),
        ("${A:?no}", "one"),
        ("${E?no}", ""),
        ("${U:-${V:-$A}}", "one"),
        ("${U:-'a}b'}", "a}b"),
        ("${U:-\"$A x\"}", "one x"),
        ("${P#*/}", "b/c.tar.gz"),
        ("${P##*/}", "c.tar.gz"),
        ("${P%.*}", "a/b/c.tar"),
        ("${P%%.*}", "a/b/c"),
        ("${P#b}", "a/b/c.tar.gz"),
        ("${P#?}", "/b/c.tar.gz"),
        ("${P/\\//-}", "a-b/c.tar.gz"),
        ("${P//\\//-}", "a-b-c.tar.gz"),
        ("${P/b*c/X}", "a/X.tar.gz"),
        ("${P//[/X}", "a/b/c.tar.gz"),
        ("${STAR#x\\*}", "y"),
        ("${STAR%\\*y}", "x"),
        ("${A/n/$S}", "otwo wordse"),
        ("<<EOF", "<<EOF"),
        ("< a", "< a"),
    ] {
        assert_eq!(word(text).as_deref(), Ok(expected), "{text}");
    }
}

#[test]
fn what_is_no_word_is_refused() {
    for text in [
        "${", "${A", "${}", "${{A}}", "${:A}", "${A:", "${A:=x}", "${A:#x}", "${A!x}", "${A^^}", "'a", "\"a", "${U:?}",
        "${U?why}", "${E:?}", "${A:-", "${A/x", "${A/x/", "${A#\\n}", "${A#\\",
    ] {
        assert!(word(text).is_err(), "{text}");
    }
    assert!(word("${U:?set it}").unwrap_err().message.contains("set it"));
}

#[test]
fn escape_may_be_a_backtick() {
    let budget = Budget::new();
    let lex = Lex::new('`', &SET, &budget);
    assert_eq!(lex.word("`$A c:\\x\\$A").as_deref(), Ok("$A c:\\x\\one"));
}

#[test]
fn words_are_parted_after_expansion() {
    let budget = Budget::new();
    let lex = Lex::new('\\', &SET, &budget);
    assert_eq!(lex.words(" a  $S 'x y' b\\ c ${U} ").unwrap(), ["a", "two", "words", "x y", "b c"]);
}

#[test]
fn raw_words_keep_what_is_written() {
    let budget = Budget::new();
    let lex = Lex { raw_quotes: true, raw_escapes: true, keep_unset: true, ..Lex::new('\\', &Nothing, &budget) };
    assert_eq!(
        lex.words("cat <<'E F' << G \"$H\" ${I:-j} \\x").unwrap(),
        ["cat", "<<'E F'", "<< G", "\"$H\"", "${I:-j}", "\\x"]
    );
    let content = Lex { plain_quotes: true, ..Lex::new('\\', &SET, &budget) };
    assert_eq!(content.word("say \"$A\" it's \\$A").as_deref(), Ok("say \"one\" it's $A"));
}

#[test]
fn a_short_text_can_not_become_a_long_one() {
    struct Big(String);
    impl Variables for Big {
        fn get(&self, _: &str) -> Option<&str> {
            Some(&self.0)
        }
    }
    let big = Big("x".repeat(64 * 1024));
    for text in ["$A".repeat(17), "${A//x/$A}".to_owned(), "${A///$A}".to_owned(), "${A##*}".repeat(17)] {
        let budget = Budget::new();
        let refusal = Lex::new('\\', &big, &budget).word(&text).unwrap_err();
        assert!(refusal.message.contains("bytes"), "{}", refusal.message);
    }
    let deep = format!("{}{}", "${a:-".repeat(100_000), "}".repeat(100_000));
    assert!(word(&deep).unwrap_err().message.contains("nested"));
}
