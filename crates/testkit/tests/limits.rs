//! `docs/limits.md` is what the code says: every bound, queue, time and number of tries that is a constant, with its value.
//!
//! `UPDATE_DOCS=1` writes it anew.

#![allow(clippy::unwrap_used)]

use std::collections::HashMap;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use quote::ToTokens as _;
use syn::{BinOp, Expr, ImplItem, Item, ItemConst, Lit, Meta};

/// Crates in the order of the document, with what they are about.
const CRATES: [(&str, &str); 11] = [
    ("core", "What users may ask for"),
    ("server", "API and reconcilers"),
    ("edge", "Edge"),
    ("agent", "Host: VMs, builds, logs, networks"),
    ("image", "Images and registries"),
    ("dockerfile", "Dockerfiles"),
    ("guest", "Files in VMs"),
    ("wire", "Between API and host"),
    ("api", "Documents of the API"),
    ("cli", "The command line"),
    ("cakework", "The program and its supervisor"),
];
/// Parts of names of numbers that bound something.
const WORDS: [&str; 17] = [
    "MAX", "MIN", "LIMIT", "TRIES", "ATTEMPTS", "TIMEOUT", "WAIT", "RETRY", "PARALLEL", "READERS", "BATCH", "BURST",
    "DEFAULT", "KEPT", "PAUSE", "MS", "SECS",
];

/// A number with what it counts, as far as the code says it.
#[derive(Debug, Clone, PartialEq)]
enum Value {
    Number(u128),
    /// In microseconds.
    Time(u128),
}

struct Bound {
    file: String,
    name: String,
    meaning: String,
    value: String,
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").canonicalize().unwrap()
}

fn sources(dir: &Path, found: &mut Vec<PathBuf>) {
    let mut entries: Vec<_> = std::fs::read_dir(dir).unwrap().flatten().map(|entry| entry.path()).collect();
    entries.sort();
    for path in entries {
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        if path.is_dir() && name != "tests" {
            sources(&path, found);
        } else if name.ends_with(".rs") && !name.ends_with("tests.rs") {
            found.push(path);
        }
    }
}

/// The constants of a file, tests aside, those of implementations included.
fn constants(items: &[Item]) -> Vec<ItemConst> {
    let mut found = Vec::new();
    for item in items {
        match item {
            Item::Const(constant) => found.push(constant.clone()),
            Item::Mod(module) if module.attrs.is_empty() => {
                found.extend(module.content.iter().flat_map(|(_, items)| constants(items)));
            }
            Item::Impl(block) => found.extend(block.items.iter().filter_map(|item| match item {
                ImplItem::Const(constant) => syn::parse2(constant.to_token_stream()).ok(),
                _ => None,
            })),
            _ => {}
        }
    }
    found
}

/// The first sentence of what the code says of it.
fn meaning(constant: &ItemConst) -> String {
    let lines = constant.attrs.iter().filter_map(|attribute| match &attribute.meta {
        Meta::NameValue(pair) if pair.path.is_ident("doc") => match &pair.value {
            Expr::Lit(literal) => match &literal.lit {
                Lit::Str(text) => Some(text.value().trim().to_owned()),
                _ => None,
            },
            _ => None,
        },
        _ => None,
    });
    let text = lines.take_while(|line| !line.is_empty()).collect::<Vec<_>>().join(" ");
    let text = text.replace("[`", "`").replace("`]", "`").replace('|', "\\|");
    text.trim_end_matches('.').to_owned()
}

/// What an expression comes to, where it is made of numbers, times and constants that are `known`.
fn evaluate(expression: &Expr, known: &HashMap<String, Value>) -> Option<Value> {
    let number = |expression: &Expr| match evaluate(expression, known)? {
        Value::Number(number) => Some(number),
        Value::Time(_) => None,
    };
    match expression {
        Expr::Lit(literal) => match &literal.lit {
            Lit::Int(number) => number.base10_parse().ok().map(Value::Number),
            _ => None,
        },
        Expr::Paren(inner) => evaluate(&inner.expr, known),
        Expr::Cast(inner) => evaluate(&inner.expr, known),
        Expr::Path(path) => known.get(&path.path.segments.last()?.ident.to_string()).cloned(),
        Expr::Binary(binary) => {
            let (left, right) = (number(&binary.left)?, number(&binary.right)?);
            Some(Value::Number(match binary.op {
                BinOp::Add(_) => left.checked_add(right)?,
                BinOp::Sub(_) => left.checked_sub(right)?,
                BinOp::Mul(_) => left.checked_mul(right)?,
                BinOp::Div(_) => left.checked_div(right)?,
                BinOp::Shl(_) => left.checked_shl(u32::try_from(right).ok()?)?,
                _ => return None,
            }))
        }
        Expr::Call(call) => {
            let Expr::Path(path) = &*call.func else { return None };
            let unit = path.path.segments.last()?.ident.to_string();
            let factor = match unit.as_str() {
                "from_micros" => 1,
                "from_millis" => 1000,
                "from_secs" => 1_000_000,
                _ => return None,
            };
            Some(Value::Time(number(call.args.first()?)? * factor))
        }
        _ => None,
    }
}

/// A time or an amount as people say it: the unit stands in the name of a number that is no time.
fn shown(name: &str, value: &Value) -> String {
    let exact = |number: u128, units: &[(u128, &str)]| {
        let (size, unit) = units.iter().find(|(size, _)| number >= *size && number.is_multiple_of(*size)).unwrap();
        format!("{} {unit}", number / size)
    };
    const TIMES: [(u128, &str); 6] =
        [(86_400_000_000, "d"), (3_600_000_000, "h"), (60_000_000, "min"), (1_000_000, "s"), (1000, "ms"), (1, "µs")];
    const SIZES: [(u128, &str); 4] = [(1 << 30, "GiB"), (1 << 20, "MiB"), (1 << 10, "KiB"), (1, "bytes")];
    match value {
        Value::Number(0) => "0".to_owned(),
        Value::Time(micros) => exact(*micros, &TIMES),
        Value::Number(number) if name.contains("_MS") || name.ends_with("MS") => exact(number * 1000, &TIMES),
        Value::Number(number) if name.ends_with("SECS") => exact(number * 1_000_000, &TIMES),
        Value::Number(number) if name.contains("BYTES") => exact(*number, &SIZES),
        Value::Number(number) if name.contains("MIB") => exact(number << 20, &SIZES),
        Value::Number(number) if name.ends_with("_GB") => format!("{number} GB"),
        Value::Number(number) => number.to_string(),
    }
}

/// Constants of all crates by name, as far as a name means one number everywhere.
fn known(all: &[(String, Vec<ItemConst>)]) -> HashMap<String, Value> {
    let mut known = HashMap::new();
    // Constants are made of constants: a few rounds reach all of them.
    for _ in 0..4 {
        for constant in all.iter().flat_map(|(_, constants)| constants) {
            if let Some(value) = evaluate(&constant.expr, &known) {
                known.entry(constant.ident.to_string()).or_insert(value);
            }
        }
    }
    known
}

fn bounds(name: &str, everywhere: &HashMap<String, Value>) -> Vec<Bound> {
    let mut paths = Vec::new();
    sources(&root().join("crates").join(name).join("src"), &mut paths);
    let mut found = Vec::new();
    for path in paths {
        let file = syn::parse_file(&std::fs::read_to_string(&path).unwrap()).unwrap();
        let constants = constants(&file.items);
        // What the file itself calls so comes first.
        let mut known = everywhere.clone();
        for _ in 0..2 {
            for constant in &constants {
                if let Some(value) = evaluate(&constant.expr, &known) {
                    known.insert(constant.ident.to_string(), value);
                }
            }
        }
        let mut above = String::new();
        for constant in &constants {
            let (name, kind) = (constant.ident.to_string(), constant.ty.to_token_stream().to_string());
            // One that stands below another without a word of its own is meant by the same.
            let meaning = Some(meaning(constant)).filter(|text| !text.is_empty()).unwrap_or_else(|| above.clone());
            above.clone_from(&meaning);
            let is_number = ["u16", "u32", "u64", "usize", "i64"].contains(&kind.as_str());
            let bounds = name.split('_').any(|word| WORDS.contains(&word));
            let is_unit = ["SECOND_MS", "MINUTE_MS", "HOUR_MS", "DAY_MS", "DAY_SECS"].contains(&name.as_str());
            let is_mode = name.starts_with("MODE_") || name.ends_with("_MODE");
            if is_unit || is_mode || (kind != "Duration" && !(is_number && bounds)) {
                continue;
            }
            if let Some(value) = known.get(&name) {
                let file = path.strip_prefix(root().join("crates")).unwrap().display().to_string();
                assert!(!meaning.is_empty(), "{name} in {file} does not say what it bounds");
                found.push(Bound { file, value: shown(&name, value), name, meaning });
            }
        }
    }
    found
}

fn document() -> String {
    let mut all = Vec::new();
    for (name, _) in CRATES {
        let mut paths = Vec::new();
        sources(&root().join("crates").join(name).join("src"), &mut paths);
        for path in paths {
            let file = syn::parse_file(&std::fs::read_to_string(&path).unwrap()).unwrap();
            all.push((path.display().to_string(), constants(&file.items)));
        }
    }
    let everywhere = known(&all);
    let mut text = String::from(
        "# Limits\n\nEvery bound, queue, time and number of tries that is a constant, read from the code. What an operator\ncan \
         set is in [config.example.toml](config.example.toml) instead.\n",
    );
    for (name, about) in CRATES {
        let bounds = bounds(name, &everywhere);
        if bounds.is_empty() {
            continue;
        }
        write!(text, "\n## {about}\n\n| value | what | constant |\n|---|---|---|\n").unwrap();
        for Bound { file, name, meaning, value } in bounds {
            writeln!(text, "| {value} | {meaning} | `{name}` in `{file}` |").unwrap();
        }
    }
    text
}

#[test]
fn the_page_of_limits_is_what_the_code_says() {
    let (path, text) = (root().join("docs/limits.md"), document());
    assert!(text.lines().count() > 150, "constants are found");
    if std::env::var_os("UPDATE_DOCS").is_some() {
        std::fs::write(&path, &text).unwrap();
    }
    let written = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(written == text, "docs/limits.md is not what the code says: UPDATE_DOCS=1 writes it anew");
}

#[test]
fn values_are_read_as_the_compiler_reads_them() {
    let known = HashMap::from([("DAY_MS".to_owned(), Value::Number(86_400_000))]);
    for (text, name, said) in [
        ("Duration::from_secs(90)", "HOLD", "90 s"),
        ("Duration::from_secs(5 * 60)", "HOLD", "5 min"),
        ("Duration::from_millis(1500)", "HOLD", "1500 ms"),
        ("64 * 1024", "BODY_MAX_BYTES", "64 KiB"),
        ("1 << 20", "BODY_MAX_BYTES", "1 MiB"),
        ("30 * DAY_MS", "KEPT_MS", "30 d"),
        ("limit::DAY_MS as u64", "KEPT_MS", "1 d"),
        ("0o777", "MODE_MAX", "511"),
        ("(1 << 10) + 1", "NAME_MAX_BYTES", "1025 bytes"),
        ("200", "VMS_MAX", "200"),
    ] {
        let value = evaluate(&syn::parse_str(text).unwrap(), &known).expect(text);
        assert_eq!(shown(name, &value), said, "{text}");
    }
    assert_eq!(evaluate(&syn::parse_str("u32::MAX").unwrap(), &HashMap::new()), None);
}
