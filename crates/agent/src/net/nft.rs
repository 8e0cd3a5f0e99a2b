//! Runs `nft`, the one program that the network needs beside the kernel.

use std::process::Stdio;
use std::time::Duration;

use tokio::io::AsyncWriteExt;
use tokio::process::Command;

use super::NetError;

const TIMEOUT: Duration = Duration::from_secs(10);
/// What of `nft`'s complaint is kept.
const COMPLAINT_MAX_BYTES: usize = 2048;

/// Applies a script as one transaction.
pub async fn apply(script: &str) -> Result<(), NetError> {
    run(&["-f", "-"], script).await.map(|_| ())
}

/// The tables there are, as `(family, name)`.
pub async fn tables() -> Result<Vec<(String, String)>, NetError> {
    let text = run(&["list", "tables"], "").await?;
    Ok(parse_tables(&text))
}

fn parse_tables(text: &str) -> Vec<(String, String)> {
    let words = text.lines().map(|line| line.split_whitespace().collect::<Vec<_>>());
    words
        .filter_map(|line| match line[..] {
            ["table", family, name] => Some((family.to_owned(), name.to_owned())),
            _ => None,
        })
        .collect()
}

async fn run(args: &[&str], input: &str) -> Result<String, NetError> {
    let failed = |message: String| NetError::Nft { message };
    let work = async {
        let mut child = Command::new("nft")
            .args(args)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()?;
        let mut stdin = child.stdin.take().expect("stdin is a pipe");
        // nft reads its whole script before it complains about any of it, and a script fits in the pipe.
        stdin.write_all(input.as_bytes()).await?;
        drop(stdin);
        child.wait_with_output().await
    };
    let output = tokio::time::timeout(TIMEOUT, work)
        .await
        .map_err(|_| failed(format!("no answer within {} s", TIMEOUT.as_secs())))?
        .map_err(|error| failed(error.to_string()))?;
    if !output.status.success() {
        let complaint = &output.stderr[..output.stderr.len().min(COMPLAINT_MAX_BYTES)];
        return Err(failed(format!("{}: {}", output.status, String::from_utf8_lossy(complaint).trim())));
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tables_are_read_by_family_and_name() {
        let text = "table inet cw0a1v\ntable netdev cw0a1v001f\n\n# warning: table ip nat is managed\n";
        let expected = [("inet", "cw0a1v"), ("netdev", "cw0a1v001f")];
        assert_eq!(parse_tables(text), expected.map(|(family, name)| (family.to_owned(), name.to_owned())));
    }
}
