//! Where a command of a stranger gets over the network: each row of the deny matrix, from inside the sandbox of a RUN.
//!
//! The agent, its registry and its builds live on a host made of network namespaces, as in the tests of the network
//! itself. Guests have no raw sockets, so that echo requests are those tests' alone.

use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};

use cakework_agent::net::HOST_ADDRESS;
use cakework_core::spec::VmSpec;

use crate::builder::{Builds, Outcome, Recipe};
use crate::host::spec;
use crate::probe::{Target, Way, all_at_once, is_closed, reach};
use crate::world::{HOST_IN_LAN, HOST_PUBLIC, INTERNET, LAN, LAN_ALLOWED, UPLINK, World};

/// A port that nothing else uses.
const PORT: u16 = 7007;
const METADATA: Ipv4Addr = Ipv4Addr::new(169, 254, 169, 254);
const HOST_V6: &str = "fd99::2";
const INTERNET_V6: &str = "fd99::1";

/// Probes all places at once over TCP and UDP, and says which TCP connections were answered.
const PROBE: &str = "FROM $BASE
ARG PLACES
RUN for place in $PLACES; do \
  host=${place%,*}; port=${place#*,}; \
  { nc -w 3 $host $port < /dev/null | grep -q hello && echo reached $place; } & \
  case $host in *:*) ;; *) nslookup -type=a -port=$port -timeout=1 -retry=1 example.com $host > /dev/null 2>&1 & ;; esac; \
  done; wait; echo probed
";

fn run(test: impl AsyncFnOnce(&Builds)) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    runtime.block_on(async {
        let builds = Builds::with(|config| {
            config["network"]["pool"] = "10.79.0.0/16".into();
            config["network"]["allow"] = serde_json::json!([format!("{LAN_ALLOWED}/32")]);
        })
        .await;
        test(&builds).await;
    });
}

/// Which of the places answered.
fn reached(outcome: &Outcome) -> Vec<String> {
    assert!(outcome.says("probed"), "{}", outcome.text());
    let answered = outcome.lines.iter().filter_map(|line| line.message.strip_prefix("reached "));
    let mut answered: Vec<String> = answered.map(str::to_owned).collect();
    answered.sort();
    answered
}

#[test]
fn a_command_reaches_the_internet_and_nothing_else() {
    World::play(|world| {
        world
            .host
            .sh("echo 0 > /proc/sys/net/ipv6/conf/all/disable_ipv6; echo 1 > /proc/sys/net/ipv6/conf/all/forwarding");
        world.host.ip(&format!("addr add {HOST_V6}/64 dev up0 nodad"));
        world.internet.ip(&format!("addr add {INTERNET_V6}/64 dev net0 nodad"));
        let host = Target::new(&world.host, Ipv4Addr::UNSPECIFIED, PORT);
        let host_v6 = Target::new(&world.host, Ipv6Addr::UNSPECIFIED, PORT + 1);
        let lan = LAN.map(|address| (address, Target::new(&world.lan, address, PORT)));
        let metadata = Target::new(&world.lan, METADATA, 80);
        let internet = Target::new(&world.internet, INTERNET, PORT);
        let internet_v6 = Target::new(&world.internet, Ipv6Addr::UNSPECIFIED, PORT + 1);
        let allowed = Target::new(&world.lan, LAN_ALLOWED, PORT);
        run(async |builds| {
            let image = builds.host.busybox().await;
            let script = format!("while true; do echo hello | nc -l -p {PORT}; done");
            let vm = builds.host.admit(VmSpec { port: Some(PORT), ..spec(&image, &script) }, None).await;
            let other_vm = builds.host.running(&vm).await;

            let near = [UPLINK, HOST_IN_LAN, HOST_PUBLIC, HOST_ADDRESS];
            let mut denied: Vec<String> = near.iter().map(|address| format!("{address},{PORT}")).collect();
            denied.extend(LAN.iter().map(|address| format!("{address},{PORT}")));
            denied.push(format!("{METADATA},80"));
            denied.push(format!("{other_vm},{PORT}"));
            // These are the guest's own, or it has no way to them, with the rules and without.
            let never = [
                format!("127.0.0.1,{PORT}"),
                format!("::1,{}", PORT + 1),
                format!("{HOST_V6},{}", PORT + 1),
                format!("{INTERNET_V6},{}", PORT + 1),
            ];
            let public = [format!("{LAN_ALLOWED},{PORT}"), format!("{INTERNET},{PORT}")];
            let places = [&public[..], &denied, &never].concat().join(" ");
            let recipe = Recipe::new(PROBE).arg("PLACES", &places).with(|put| put.no_cache = true);

            let outcome = builds.good(&recipe).await;
            let mut wanted = public.to_vec();
            wanted.sort();
            assert_eq!(reached(&outcome), wanted, "{}", outcome.text());
            for way in [Way::Tcp, Way::Udp] {
                for target in [&host, &host_v6, &metadata, &internet_v6] {
                    assert_eq!(target.visitors(way), [], "{way:?}");
                }
                for (address, target) in &lan {
                    assert_eq!(target.visitors(way), [], "{way:?} to {address}");
                }
                assert!(!internet.visitors(way).is_empty() && !allowed.visitors(way).is_empty(), "{way:?}");
            }
            let under: Vec<_> = internet.visitors(Way::Tcp).iter().map(SocketAddr::ip).collect();
            assert_eq!(under, [UPLINK], "it leaves under the host's own address");

            // Without the rules the same command comes through: the rows above prove something.
            world.host.sh(&format!("nft flush table inet cw{}", builds.host.instance));
            let outcome = builds.good(&recipe).await;
            let mut wanted = [&denied[..], &public[..1]].concat();
            wanted.sort();
            assert_eq!(reached(&outcome), wanted, "{}", outcome.text());
            assert!(!host.visitors(Way::Udp).is_empty() && !metadata.visitors(Way::Udp).is_empty());
            assert!(lan.iter().all(|(_, target)| !target.visitors(Way::Udp).is_empty()));
        });
        // What a command has no way to is there: the host itself gets to it.
        let there = [
            (Way::Tcp, SocketAddr::from((Ipv4Addr::LOCALHOST, PORT))),
            (Way::Tcp, SocketAddr::from((Ipv6Addr::LOCALHOST, PORT + 1))),
            (Way::Tcp, format!("[{INTERNET_V6}]:{}", PORT + 1).parse().expect("an address")),
        ];
        for ((way, to), came_through) in all_at_once(&there, |(way, to)| world.host.run(|| reach(*way, *to))) {
            assert!(came_through, "{way:?} to {to}");
        }
        assert!(
            world.host.run(|| is_closed(Way::Tcp, (Ipv4Addr::LOCALHOST, PORT + 2).into())),
            "a port that is not there"
        );
    });
}
