//! The crew: processes that a supervisor would keep running. Some are killed; one that ends by itself is started again.
//!
//! Owns: which processes there are, what was done to them, and at which addresses devices find one. Neighbours: `trial`.

use std::sync::Arc;

use crate::devices::Nodes;
use crate::harness::process::Process;
use crate::harness::world::World;

/// All roles in one process.
pub(crate) const WHOLE: &[&str] = &[];
const GATEWAY: &str = "gateway";

struct Member {
    roles: &'static [&'static str],
    process: Process,
}

impl Member {
    fn is_node(&self) -> bool {
        self.roles.is_empty() || self.roles.contains(&GATEWAY)
    }
}

/// Processes of a world.
pub(crate) struct Crew {
    members: Vec<Member>,
    nodes: Nodes,
    world: Arc<World>,
    pub(crate) kills: usize,
    /// How often one had ended by itself, and was started again.
    pub(crate) restarts: usize,
}

impl Crew {
    pub(crate) fn new(world: Arc<World>, nodes: Nodes) -> Self {
        Self { world, nodes, members: Vec::new(), kills: 0, restarts: 0 }
    }

    /// Takes in one more, ready or not.
    pub(crate) fn join(&mut self, roles: &'static [&'static str]) {
        let process = Process::spawn_roles(&self.world, roles);
        self.take_in(roles, process);
    }

    /// Takes in one that was started by somebody else.
    pub(crate) fn take_in(&mut self, roles: &'static [&'static str], process: Process) {
        let member = Member { roles, process };
        if member.is_node() {
            self.nodes.enter(member.process.address);
        }
        self.members.push(member);
    }

    /// Where devices find them.
    pub(crate) fn nodes(&self) -> Nodes {
        self.nodes.clone()
    }

    pub(crate) fn len(&self) -> usize {
        self.members.len()
    }

    /// The number of the first member with these roles.
    pub(crate) fn of(&self, roles: &[&str]) -> usize {
        self.members.iter().position(|member| member.roles == roles).unwrap()
    }

    pub(crate) fn roles(&self, number: usize) -> &'static [&'static str] {
        self.members[number].roles
    }

    pub(crate) fn process(&self, number: usize) -> &Process {
        &self.members[number].process
    }

    pub(crate) async fn until_ready(&self, number: usize) {
        self.members[number].process.await_ready().await;
    }

    pub(crate) async fn until_all_ready(&mut self) {
        for number in 0..self.members.len() {
            self.tend();
            self.until_ready(number).await;
        }
    }

    /// SIGKILL, and nobody takes its place yet.
    pub(crate) fn kill(&mut self, number: usize) {
        let member = self.members.remove(number);
        self.nodes.strike(member.process.address);
        member.process.kill();
        self.kills += 1;
    }

    /// It drains and ends, and nobody takes its place.
    pub(crate) async fn dismiss(&mut self, number: usize) {
        let mut member = self.members.remove(number);
        member.process.terminate();
        assert!(member.process.ended().await.success(), "{}", member.process.logged());
        self.nodes.strike(member.process.address);
    }

    /// Starts again whoever has ended by itself.
    pub(crate) fn tend(&mut self) {
        for member in &mut self.members {
            if member.process.try_ended().is_some() {
                println!("the process at {} ended by itself: {}", member.process.address, last_line(&member.process));
                self.nodes.strike(member.process.address);
                member.process = Process::spawn_roles(&self.world, member.roles);
                self.restarts += 1;
                if member.is_node() {
                    self.nodes.enter(member.process.address);
                }
            }
        }
    }
}

fn last_line(process: &Process) -> String {
    process.logged().lines().last().unwrap_or_default().to_owned()
}
