//! Runs `nft`, the one program that the network needs beside the kernel.

use std::process::Stdio;
use std::time::Duration;

use tokio::io::AsyncWriteExt;
use tokio::process::Command;

use super::NetError;

/// Longest time of one run of `nft`.
const TIMEOUT: Duration = Duration::from_secs(10);
/// What of `nft`'s complaint is kept.
const COMPLAINT_MAX_BYTES: usize = 2048;

/// Applies a script as one transaction.
pub async fn apply(script: &str) -> Result<(), NetError> {
    run(&["-f", "-"], script).await.map(|_| ())
}

/// The chains there are, as `(family, table, chain)`; a table without any has an empty chain's name.
pub async fn chains() -> Result<Vec<(String, String, String)>, NetError> {
    let text = run(&["list", "chains"], "").await?;
    Ok(parse_chains(&text))
}

fn parse_chains(text: &str) -> Vec<(String, String, String)> {
    let mut table = None;
    let mut chains = Vec::new();
    for line in text.lines() {
        let chain = match line.split_whitespace().collect::<Vec<_>>()[..] {
            ["table", family, name, "{"] => {
                table = Some((family.to_owned(), name.to_owned()));
                ""
            }
            ["chain", name, "{"] => name,
            _ => continue,
        };
        if let Some((family, table)) = table.clone() {
            chains.push((family, table, chain.to_owned()));
        }
    }
    chains
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
    fn chains_are_read_with_their_tables() {
        let text = "table inet cw0a1v {\n\tchain input {\n\t\ttype filter hook input priority filter; policy accept;\n\t}\n}\n\
                    table netdev cw0a1v {\n}\n";
        let expected = [("inet", "cw0a1v", ""), ("inet", "cw0a1v", "input"), ("netdev", "cw0a1v", "")];
        let expected = expected.map(|(family, table, chain)| (family.to_owned(), table.to_owned(), chain.to_owned()));
        assert_eq!(parse_chains(text), expected);
    }
}
