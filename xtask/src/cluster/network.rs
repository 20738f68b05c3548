//! The network of the pods: a bridge with a subnet of its own, which nobody else on this machine routes.

use std::fs;
use std::net::Ipv4Addr;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};

use super::layout::{BRIDGE, Layout, NAME};
use crate::process;

const ANSWER: Duration = Duration::from_secs(30);

/// A subnet of 256 addresses, whose first host is the node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Subnet(Ipv4Addr);

impl Subnet {
    /// The node's address, which is the bridge's.
    pub(super) fn node(self) -> Ipv4Addr {
        Ipv4Addr::from(u32::from(self.0) + 1)
    }

    fn parse(text: &str) -> Option<Self> {
        text.trim().strip_suffix("/24")?.parse().ok().map(Self)
    }
}

/// The subnet of this cluster, chosen once: certificates name its first address.
pub(super) fn subnet(layout: &Layout) -> Result<Subnet> {
    let file = layout.file("subnet");
    if let Some(noted) = fs::read_to_string(&file).ok().as_deref().and_then(Subnet::parse) {
        return Ok(noted);
    }
    let routes =
        process::output(process::command("ip").args(["-4", "route", "show", "table", "all"]), ANSWER)?;
    let chosen =
        choose(&routes).context("all of 10.213.0.0/16 is routed elsewhere; a cluster needs 256 addresses")?;
    fs::write(&file, format!("{}/24\n", chosen.0)).context("cannot note the subnet")?;
    Ok(chosen)
}

/// The first subnet that no route leads to.
fn choose(routes: &str) -> Option<Subnet> {
    // The bridge itself may be left from a cluster whose folder somebody deleted.
    let others = routes.lines().filter(|line| !line.split_whitespace().any(|word| word == BRIDGE));
    let taken: Vec<(u32, u32)> = others.filter_map(destination).collect();
    (0..=255).map(|third| Ipv4Addr::new(10, 213, third, 0)).map(Subnet).find(|subnet| {
        let first = u32::from(subnet.0);
        let last = first + 255;
        taken.iter().all(|(from, to)| *to < first || *from > last)
    })
}

/// The first and the last address that a line of `ip route` is about, the default route apart.
fn destination(line: &str) -> Option<(u32, u32)> {
    const KINDS: [&str; 8] =
        ["unicast", "local", "broadcast", "multicast", "blackhole", "unreachable", "prohibit", "throw"];
    let word = line.split_whitespace().find(|word| !KINDS.contains(word))?;
    let (address, length) = word.split_once('/').unwrap_or((word, "32"));
    let address = u32::from(address.parse::<Ipv4Addr>().ok()?);
    let length: u32 = length.parse().ok().filter(|length| (1..=32).contains(length))?;
    let hosts = u32::MAX.checked_shr(length).unwrap_or(0);
    Some((address & !hosts, address | hosts))
}

/// Makes the bridge, and lets pods reach each other over it.
pub(super) fn set_up(subnet: Subnet) -> Result<()> {
    if !exists() {
        run("ip", &["link", "add", BRIDGE, "type", "bridge"])?;
    }
    run("ip", &["address", "replace", &format!("{}/24", subnet.node()), "dev", BRIDGE])?;
    run("ip", &["link", "set", BRIDGE, "up"])?;
    // Where a firewall sees what a bridge carries, and forwards nothing by default, as Docker has it, pods
    // would be deaf to each other. The engine itself is kept from the firewall: it would take the chains
    // of the user's engine for its own.
    if !process::capture(&mut rule("-C"), ANSWER)?.status.success() {
        process::output(&mut rule("-I"), ANSWER).context("pods cannot be let through the firewall")?;
    }
    Ok(())
}

/// Removes what [`set_up`] made, however much of it is there.
pub(super) fn remove() -> Result<()> {
    if exists() {
        run("ip", &["link", "delete", BRIDGE])?;
    }
    // Without iptables there was no rule to make either.
    if process::on_path("iptables").is_some() {
        let mut left = 16;
        while process::capture(&mut rule("-D"), ANSWER)?.status.success() {
            left -= 1;
            if left == 0 {
                bail!("iptables deletes the rule of {BRIDGE} again and again");
            }
        }
    }
    Ok(())
}

pub(super) fn exists() -> bool {
    std::path::Path::new("/sys/class/net").join(BRIDGE).exists()
}

/// iptables with the one rule, to check, insert or delete.
fn rule(what: &str) -> Command {
    let mut command = process::command("iptables");
    command.args(["-w", "10", what, "FORWARD", "-i", BRIDGE, "-o", BRIDGE]);
    command.args(["-m", "comment", "--comment", NAME, "-j", "ACCEPT"]);
    command
}

fn run(program: &str, arguments: &[&str]) -> Result<()> {
    process::output(process::command(program).args(arguments), ANSWER).map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chosen(routes: &str) -> Option<Ipv4Addr> {
        choose(routes).map(Subnet::node)
    }

    #[test]
    fn the_first_subnet_is_taken_where_nothing_is_near() {
        let routes =
            "default via 192.0.2.1 dev eth0\n172.17.0.0/16 dev docker0 scope link\nlocal 127.0.0.1 dev lo";
        assert_eq!(chosen(routes), Some(Ipv4Addr::new(10, 213, 0, 1)));
    }

    #[test]
    fn a_subnet_that_somebody_routes_is_passed_over() {
        let routes = "10.213.0.0/23 dev a\nlocal 10.213.2.7 dev b\nbroadcast 10.213.3.255 dev c";
        assert_eq!(chosen(routes), Some(Ipv4Addr::new(10, 213, 4, 1)));
    }

    #[test]
    fn a_network_that_has_them_all_leaves_none() {
        assert_eq!(chosen("10.0.0.0/8 via 192.0.2.1 dev tun0"), None);
    }

    #[test]
    fn what_was_noted_is_read_back() {
        assert_eq!(Subnet::parse("10.213.4.0/24\n").map(Subnet::node), Some(Ipv4Addr::new(10, 213, 4, 1)));
        assert_eq!(Subnet::parse("10.213.4.0"), None);
    }
}
