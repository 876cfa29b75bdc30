//! A client that connects anew fences off what its earlier connection still holds.
//!
//! A connection over a network can break for the client and not for the server: requests that the client gave up, and
//! sent again over a new connection, still lie in the old socket. If they were done later, after a newer write to the
//! same place, that write would be lost. So the old connection is closed with what it holds, and the new one waits
//! until what the core had of the old one has ended.

use super::{Admitted, Traffic};
use crate::reactor::Port;

impl Traffic {
    /// Lets a connection in, at once or when its client's earlier ones have ended. One that is older than what its
    /// client has here comes too late, and is closed.
    pub(super) fn pass_fence(&mut self, admitted: Admitted, port: &Port<'_>) {
        let Some(fence) = admitted.fence else { return self.admit(admitted, port) };
        let same = |other: &Option<_>| other.is_some_and(|other: super::Fence| other.client == fence.client);
        let here = self.connections.iter().filter(|(_, one)| same(&one.fence));
        let keys: Vec<usize> = here.map(|(key, _)| key).collect();
        let known = keys.iter().filter_map(|&key| self.connections[key].fence);
        let known =
            known.chain(self.held_back.iter().filter_map(|one| one.fence.filter(|_| same(&one.fence))));
        if known.map(|other| other.connection).max().is_some_and(|newest| newest > fence.connection) {
            return self.counters.connections_open.sub(1);
        }
        keys.into_iter().for_each(|key| self.kill(key));
        let before = self.held_back.len();
        self.held_back.retain(|one| !same(&one.fence));
        (self.held_back.len()..before).for_each(|_| self.counters.connections_open.sub(1));
        if self.connections.iter().any(|(_, one)| same(&one.fence) && one.under_way > 0) {
            return self.held_back.push(admitted);
        }
        self.admit(admitted, port);
    }

    /// Looks whether those who wait at the fence can be let in.
    pub(super) fn let_in(&mut self, port: &Port<'_>) {
        for admitted in std::mem::take(&mut self.held_back) {
            self.pass_fence(admitted, port);
        }
    }
}
