//! What repeats, freezes or breaks when memory is brought back: each line here is one of `docs/restore-hazards.md`.

use std::time::Duration;

use cakework_core::cached::{Prewarm, StartTier};
use cakework_core::spec::VmSpec;
use cakework_wire::host::SleepAnswer;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use crate::cached::{COUNTER, Cached, count, created, paused};
use crate::host::{Host, spec};

#[tokio::test]
async fn what_was_drawn_while_preparing_comes_again_but_for_those_who_opt_out() {
    let host = Host::started().await;
    let digest = host.busybox().await;
    let wanted = VmSpec { port: Some(80), ..spec(&digest, COUNTER) };
    for (prewarm, tier) in [(Prewarm::Boot, StartTier::Paused), (Prewarm::Create, StartTier::Created)] {
        let mut vm = Cached::held(&host, wanted.clone(), prewarm).await;
        let mut drawn = Vec::new();
        for _ in 0..2 {
            if tier == StartTier::Paused {
                paused(&host, 1).await
            } else {
                created(&host, 1).await
            }
            let address = vm.start_as(&host, tier).await;
            drawn.push(count(&host, address).await.0);
            vm.stop(&host).await;
        }
        assert_eq!(drawn[0] == drawn[1], tier == StartTier::Paused, "{tier:?}: {drawn:?}");
        vm.destroy(&host).await;
    }
}

#[tokio::test]
async fn names_address_locks_and_temporary_files_are_those_of_the_prepared_vm() {
    let host = Host::started().await;
    let digest = host.busybox().await;
    let script = "mkdir -p /srv/w; echo kept > /tmp/kept; (flock 9; exec sleep 1000) 9> /lock & sleep 0.2
        httpd -p 80 -h /srv/w; while :; do lock=free; flock -n /lock true || lock=held
        echo $(hostname)-$$-$(cat /tmp/kept)-$lock 1 > /srv/w/index.html; sleep 0.05; done";
    let wanted = VmSpec { port: Some(80), ..spec(&digest, script) };
    let mut vms = Vec::new();
    for _ in 0..2 {
        vms.push(Cached::held(&host, wanted.clone(), Prewarm::Boot).await);
    }
    let mut hostnames = Vec::new();
    paused(&host, 2).await;
    for vm in &mut vms {
        let mut found = Vec::new();
        for _ in 0..2 {
            paused(&host, 2).await;
            let address = vm.start_as(&host, StartTier::Paused).await;
            found.push((address, count(&host, address).await.0));
            vm.stop(&host).await;
        }
        assert_eq!(found[0], found[1]);
        assert!(found[0].1.ends_with("-kept-held"), "{found:?}");
        hostnames.push(found.remove(0).1.split('-').next().map(str::to_owned));
    }
    assert_ne!(hostnames[0], hostnames[1], "what is prepared is one VM's alone");
    for vm in &vms {
        vm.destroy(&host).await;
    }
}

#[tokio::test]
async fn clocks_go_on_while_nothing_runs_and_never_back() {
    let host = Host::started().await;
    let digest = host.busybox().await;
    // How often two seconds and more passed between two looks, and the hundredths of a second since the boot.
    let script = "mkdir -p /srv/w; jumps=0
        look() { read up _ < /proc/uptime; now=$((${up%.*} * 100 + 1${up#*.} - 100)); }
        look; last=$now; httpd -p 80 -h /srv/w
        while :; do look; d=$((now - last)); last=$now
        [ $d -lt 200 ] || jumps=$((jumps + 1)); [ $d -ge 0 ] || jumps=back
        echo $jumps $now > /srv/w/index.html; sleep 0.03; done";
    let wanted = VmSpec { port: Some(80), ..spec(&digest, script) };
    let pause = Duration::from_millis(2200);
    let mut vm = Cached::held(&host, wanted, Prewarm::Boot).await;
    paused(&host, 1).await;
    tokio::time::sleep(pause).await;
    let address = vm.start_as(&host, StartTier::Paused).await;
    jumped(&host, address, 1).await;
    for (spill, jumps) in [(false, 2), (true, 3)] {
        assert!(matches!(vm.sleep(&host, None, spill).await, SleepAnswer::Asleep { .. }));
        tokio::time::sleep(pause).await;
        vm.wake(&host).await;
        jumped(&host, address, jumps).await;
    }
    vm.destroy(&host).await;
}

async fn jumped(host: &Host, address: std::net::Ipv4Addr, jumps: u32) {
    let jumped = async || count(host, address).await.0.parse().ok().filter(|now: &u32| *now >= jumps);
    host.until("its clock jumped", jumped).await;
}

#[tokio::test]
async fn a_connection_goes_on_over_a_sleep_in_place_and_ends_over_a_spill() {
    let host = Host::started().await;
    let digest = host.busybox().await;
    let wanted = VmSpec { port: Some(80), ..spec(&digest, COUNTER) };
    let mut vm = Cached::held(&host, wanted, Prewarm::None).await;
    let address = vm.start_as(&host, StartTier::Cold).await;
    count(&host, address).await;
    for spill in [false, true] {
        let mut open = TcpStream::connect((address, 80)).await.expect("it accepts");
        open.write_all(b"GET /index.html HTTP/1.0\r\n").await.expect("half a request");
        assert!(matches!(vm.sleep(&host, None, spill).await, SleepAnswer::Asleep { .. }));
        vm.wake(&host).await;
        let mut answer = String::new();
        let heard = async {
            open.write_all(b"\r\n").await?;
            open.read_to_string(&mut answer).await
        };
        let heard = tokio::time::timeout(Duration::from_secs(20), heard).await.expect("it does not hang");
        assert_eq!(heard.is_ok_and(|_| answer.starts_with("HTTP/1.1 200")), !spill, "{answer:?}");
        count(&host, address).await;
    }
    vm.destroy(&host).await;
}
