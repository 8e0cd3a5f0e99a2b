//! What a host said of a VM, applied to the record.

use cakework_core::cached::Sleep;
use cakework_core::lifecycle::{VmEvent, VmState};
use cakework_wire::host::{VmObservation, VmReport};

use crate::app::App;
use crate::store::StoreError;
use crate::store::vm_changes::Facts;
use crate::store::vms::Vm;

/// What an observation means for a VM's life; `None` where it changes nothing.
pub(crate) fn said(observation: &VmObservation) -> Option<(VmEvent, Facts)> {
    let none = Facts::default();
    match observation {
        VmObservation::Starting | VmObservation::Ending => None,
        VmObservation::Running { address, start } => {
            Some((VmEvent::HostStarted, Facts { address: Some(*address), start: start.clone(), ..none }))
        }
        VmObservation::Asleep { spilled } => {
            Some((VmEvent::HostStarted, Facts { sleep: Some(asleep(*spilled)), ..none }))
        }
        VmObservation::Stopped { exit } => Some((VmEvent::HostStopped, Facts { exit: exit.clone(), ..none })),
        VmObservation::Ended { exit } => Some((VmEvent::HostEnded, Facts::exit(exit.clone()))),
    }
}

/// Applies what was said of a VM in its own generation and on its host: its life, and within a run its sleep.
pub(crate) async fn observe(app: &App, vm: &Vm, report: &VmReport) -> Result<(), StoreError> {
    let Some((event, facts)) = said(&report.observation) else { return Ok(()) };
    if vm.state == VmState::Started && event == VmEvent::HostStarted {
        if app.store.sleeps(&vm.id, vm.generation, facts.sleep, facts.address, report.seq).await? {
            app.pokes.follow.notify_one();
        }
        return Ok(());
    }
    app.apply(&vm.id, vm.generation, event, facts).await?;
    Ok(())
}

/// How a VM sleeps.
fn asleep(spilled: bool) -> Sleep {
    if spilled { Sleep::Spilled } else { Sleep::Paused }
}
