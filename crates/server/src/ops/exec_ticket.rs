//! Tickets for commands: what a builder gives to a browser, which can send no header with a WebSocket and must not have a
//! key.
//!
//! A ticket is sealed and kept nowhere: any api process opens it. It is bound to its VM, acts for whoever made it, and is
//! good for a minute, however often it is used; revoking the key that it was made with does not end it sooner.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use cakework_api::exec::ExecTicket;
use cakework_api::problem::ErrorCode;
use cakework_api::time::rfc3339;
use cakework_core::id::{AccountId, VmId};
use serde::{Deserialize, Serialize};

use super::vms::find;
use crate::app::App;
use crate::caller::Caller;
use crate::clock::now_ms;
use crate::error::ApiError;

/// Life of a ticket.
const LIFE_MS: u64 = 60_000;
/// Bytes of a ticket that are looked at.
const TICKET_MAX_BYTES: usize = 4096;

/// What a ticket holds.
#[derive(Serialize, Deserialize)]
struct Held {
    account: AccountId,
    tenant: Option<String>,
    expires_ms: u64,
}

/// Makes one for a VM of the caller's.
pub(crate) async fn make(app: &App, caller: &Caller, id: &VmId) -> Result<ExecTicket, ApiError> {
    find(app, caller, id).await?;
    let expires_ms = now_ms() + LIFE_MS;
    let held = Held { account: caller.account.clone(), tenant: caller.tenant.clone(), expires_ms };
    let text = serde_json::to_vec(&held).expect("plain data");
    let ticket = URL_SAFE_NO_PAD.encode(app.sealer.seal(&place(id), &text));
    Ok(ExecTicket { ticket, expires_at: rfc3339(expires_ms) })
}

/// Who made a ticket for this VM, while it is good.
pub(crate) fn open(app: &App, id: &VmId, ticket: &str) -> Result<Caller, ApiError> {
    let sealed = Some(ticket).filter(|ticket| ticket.len() <= TICKET_MAX_BYTES);
    let sealed = sealed.and_then(|ticket| URL_SAFE_NO_PAD.decode(ticket).ok());
    let held = sealed.and_then(|sealed| app.sealer.open_sealed(&place(id), &sealed).ok());
    let held: Option<Held> = held.and_then(|text| serde_json::from_slice(&text).ok());
    match held {
        None => Err(ApiError::new(ErrorCode::InvalidTicket, "The ticket was not made for this VM.")),
        Some(held) if held.expires_ms <= now_ms() => {
            Err(ApiError::new(ErrorCode::InvalidTicket, "The ticket has expired."))
        }
        Some(held) => {
            app.rates.count_account(&held.account)?;
            Ok(Caller { account: held.account, tenant: held.tenant })
        }
    }
}

fn place(id: &VmId) -> String {
    format!("exec-tickets/{id}")
}
