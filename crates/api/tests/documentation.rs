//! The documentation of the problem codes is generated: `UPDATE_DOCS=1` writes it.

use std::path::Path;

#[test]
fn the_documented_codes_are_the_real_ones() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/errors.md");
    let document = cakework_api::problem::document();
    if std::env::var_os("UPDATE_DOCS").is_some() {
        std::fs::write(&path, &document).expect("docs/errors.md is writable");
    }
    let written = std::fs::read_to_string(&path).unwrap_or_default();
    assert_eq!(written, document, "run the test with UPDATE_DOCS=1 and commit docs/errors.md");
}

#[test]
fn words_in_json_and_in_code_agree() {
    for code in cakework_api::problem::ErrorCode::ALL {
        assert_eq!(serde_json::to_value(code).expect("a word"), code.as_str());
        assert!((400..600).contains(&code.status()));
    }
}
