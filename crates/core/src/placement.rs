//! Placement: which hosts to ask for a VM, in which order. Pure; one host is the case N = 1.

use rand::Rng;

use crate::admission::{Amounts, admit};
use crate::id::HostId;
use crate::isolation::Isolation;

/// What the api knows of a host: a hint, since only the host itself admits.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HostView {
    /// The host.
    pub host_id: HostId,
    /// The isolation it gives; `None` while it refuses to start VMs.
    pub isolation: Option<Isolation>,
    /// All it has.
    pub capacity: Amounts,
    /// What of it is taken.
    pub reserved: Amounts,
    /// It takes no new VMs.
    pub draining: bool,
}

/// The hosts to try for `demand`, best first.
///
/// Of two random candidates the one with more free memory goes first ("power of two choices"), which spreads a
/// burst over hosts whose views are equally old.
pub fn candidates(demand: Amounts, hosts: &[HostView], rng: &mut impl Rng) -> Vec<HostId> {
    let mut fitting: Vec<&HostView> = hosts
        .iter()
        .filter(|host| !host.draining && host.isolation.is_some())
        .filter(|host| admit(host.capacity, host.reserved, demand).is_ok())
        .collect();
    let mut ordered = Vec::with_capacity(fitting.len());
    while !fitting.is_empty() {
        let mut pick = || (rng.next_u64() % fitting.len() as u64) as usize;
        let (one, other) = (pick(), pick());
        let free = |index: usize| fitting[index].capacity.minus(fitting[index].reserved).memory_mib;
        let best = if free(one) >= free(other) { one } else { other };
        ordered.push(fitting.swap_remove(best).host_id.clone());
    }
    ordered
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand::{SeedableRng, rngs::StdRng};

    fn host(rng: &mut StdRng, free_mib: u64) -> HostView {
        HostView {
            host_id: HostId::mint(1, rng),
            isolation: Some(Isolation::Gvisor),
            capacity: Amounts { memory_mib: free_mib, cpu_milli: 8000, disk_mib: 1000, slots: 10 },
            reserved: Amounts::default(),
            draining: false,
        }
    }

    const DEMAND: Amounts = Amounts { memory_mib: 256, cpu_milli: 1000, disk_mib: 100, slots: 1 };

    #[test]
    fn one_host_is_the_ordinary_case() {
        let mut rng = StdRng::seed_from_u64(1);
        let only = host(&mut rng, 1024);
        assert_eq!(candidates(DEMAND, std::slice::from_ref(&only), &mut rng), std::slice::from_ref(&only.host_id));
        assert!(candidates(DEMAND, &[HostView { draining: true, ..only.clone() }], &mut rng).is_empty());
        assert!(candidates(DEMAND, &[HostView { isolation: None, ..only.clone() }], &mut rng).is_empty());
        let full = Amounts { memory_mib: 900, ..Amounts::default() };
        assert!(candidates(DEMAND, &[HostView { reserved: full, ..only }], &mut rng).is_empty());
    }

    #[test]
    fn every_fitting_host_is_tried_once_and_the_emptier_more_often_first() {
        let mut rng = StdRng::seed_from_u64(2);
        let hosts: Vec<_> = [512, 1024, 4096].map(|free| host(&mut rng, free)).into();
        let mut first = [0; 3];
        for _ in 0..300 {
            let order = candidates(DEMAND, &hosts, &mut rng);
            assert_eq!(order.len(), 3);
            assert!(hosts.iter().all(|host| order.contains(&host.host_id)));
            first[hosts.iter().position(|host| host.host_id == order[0]).expect("one of them")] += 1;
        }
        assert!(first[2] > first[1] && first[1] > first[0], "{first:?}");
    }
}
