//! The client's end of work on a VM's files.

use std::io;

use axum::body::Bytes;
use cakework_core::id::{HostId, VmId};
use cakework_wire::files::{ANSWER_LINE_MAX_BYTES, FileAnswer, FileOp, FileWish};
use futures_util::{Stream, StreamExt as _};
use reqwest::{Body, Method};

use crate::host::{HostClient, HostError, chain, refusal};
use crate::store::vms::Vm;

impl HostClient {
    /// Does something with the files of a VM on its host; what is said, and the bytes that come out. An answer that breaks off
    /// is an error in the stream.
    pub(crate) async fn files(
        &self,
        host: &HostId,
        vm: &Vm,
        op: FileOp,
        body: Option<Body>,
    ) -> Result<(FileAnswer, impl Stream<Item = io::Result<Bytes>> + use<>), HostError> {
        let wish = FileWish { host_id: host.clone(), generation: vm.generation, op };
        let wish = serde_json::to_string(&wish).map_err(HostError::away)?;
        let request = self.request(Method::POST, &path(&vm.id)).query(&[("wish", wish)]);
        let request = request.body(body.unwrap_or_default());
        let mut response = request.send().await.map_err(|error| HostError::Away(chain(&error)))?;
        let status = response.status();
        let mut line = Vec::new();
        let rest = loop {
            let at = line.iter().position(|byte| *byte == b'\n').filter(|_| status.is_success());
            if let Some(at) = at {
                let rest = line.split_off(at + 1);
                line.truncate(at);
                break rest;
            }
            if line.len() > ANSWER_LINE_MAX_BYTES {
                return Err(HostError::away("an answer about files is none"));
            }
            match response.chunk().await.map_err(|error| HostError::Away(chain(&error)))? {
                Some(chunk) => line.extend_from_slice(&chunk),
                None if status.is_success() => return Err(HostError::away("an answer about files is none")),
                None => return Err(refusal(status, &line)),
            }
        };
        let answer = serde_json::from_slice(&line).map_err(HostError::away)?;
        let rest = futures_util::stream::iter((!rest.is_empty()).then(|| Ok(Bytes::from(rest))));
        let more = response.bytes_stream().map(|chunk| chunk.map_err(|error| io::Error::other(chain(&error))));
        Ok((answer, rest.chain(more)))
    }
}

fn path(vm: &VmId) -> String {
    format!("vms/{vm}/files")
}
